//! Memories of the interpreter, with who accessed what.
//!
//! Takes accesses of numbered invocations in any order, gives elements and the faults of an
//! access: outside of the memory, of what is undefined, or in a race. It knows no statement.

use std::ops::Range;

use crate::kernel::Type;
use crate::kernel::interpret::fault::FaultKind;

/// The numbers in a storage buffer, one word of 32 bits for each lane: the bits of f32 and
/// integers, those of f16 in the lower half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferContents {
    words: Vec<u32>,
    defined: Vec<bool>,
}

impl BufferContents {
    /// So many lanes that nobody has stored.
    pub fn undefined(lanes: usize) -> BufferContents {
        BufferContents {
            words: vec![0; lanes],
            defined: vec![false; lanes],
        }
    }

    /// The words of all lanes.
    pub fn from_words(words: Vec<u32>) -> BufferContents {
        let defined = vec![true; words.len()];
        BufferContents { words, defined }
    }

    /// The numbers of all lanes.
    pub fn from_f32(numbers: &[f32]) -> BufferContents {
        BufferContents::from_words(numbers.iter().map(|number| number.to_bits()).collect())
    }

    /// The word of each lane; 0 where it is undefined.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether each lane is defined.
    pub fn defined(&self) -> &[bool] {
        &self.defined
    }

    /// The number of each lane; 0 where it is undefined.
    pub fn to_f32(&self) -> Vec<f32> {
        self.words
            .iter()
            .map(|&word| f32::from_bits(word))
            .collect()
    }
}

/// Who accessed some lanes: numbers of invocations from 1, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Track {
    writer: u32,
    reader: u32,
    /// Whether an asynchronous copy of the writer is on its way.
    arriving: bool,
}

/// More than one invocation.
pub(super) const SEVERAL: u32 = u32::MAX;

/// The invocation that an access conflicts with, by number, and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) element: u32,
    pub(super) with: u32,
    pub(super) access: &'static str,
    pub(super) other: &'static str,
}

/// What is wrong with an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    Plain(FaultKind),
    Race(Conflict),
}

/// How elements of a memory are counted: one type of what is in a bank.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) name: &'a str,
    pub(super) element: Type,
    pub(super) elements: u32,
}

impl View<'_> {
    fn lanes(&self) -> usize {
        usize::from(self.element.lanes)
    }
}

/// One memory.
#[derive(Debug)]
pub(super) struct Bank {
    words: Vec<u32>,
    /// By lane.
    defined: Vec<bool>,
    /// Whether all is defined: then `defined` need not be asked.
    is_defined: bool,
    /// Lanes of a track: no view has fewer in an element.
    unit: usize,
    /// By unit; empty where nobody stores.
    tracks: Vec<Track>,
    /// Whether copies may be on their way.
    has_copies: bool,
}

impl Bank {
    /// A memory with contents of the right size; views have elements of at least `unit` lanes.
    pub(super) fn new(unit: u8, written: bool, contents: BufferContents) -> Bank {
        let unit = usize::from(unit);
        let tracked = if written {
            contents.words.len() / unit
        } else {
            0
        };
        Bank {
            is_defined: contents.defined.iter().all(|&defined| defined),
            words: contents.words,
            defined: contents.defined,
            unit,
            tracks: vec![Track::default(); tracked],
            has_copies: false,
        }
    }

    /// What is in it.
    pub(super) fn contents(self) -> BufferContents {
        BufferContents {
            words: self.words,
            defined: self.defined,
        }
    }

    /// Nothing in it is defined any more, and nobody has accessed it.
    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.defined.fill(false);
        self.is_defined = false;
        self.has_copies = false;
        self.order();
    }

    /// What was accessed before comes before all that follows, but for copies on their way.
    pub(super) fn order(&mut self) {
        if !self.has_copies {
            return self.tracks.fill(Track::default());
        }
        let arrived = self.tracks.iter_mut().filter(|track| !track.arriving);
        arrived.for_each(|track| *track = Track::default());
    }

    /// The lanes of an element.
    fn lanes_of(&self, view: View<'_>, index: u32) -> Result<Range<usize>, Wrong> {
        let lanes = view.lanes();
        match index < view.elements {
            true => Ok(index as usize * lanes..(index as usize + 1) * lanes),
            false => Err(Wrong::Plain(FaultKind::OutOfBounds {
                memory: view.name.to_owned(),
                index: index.cast_signed(),
                elements: view.elements,
            })),
        }
    }

    /// Who accessed these lanes; empty where nobody stores.
    fn tracks(&mut self, lanes: &Range<usize>) -> &mut [Track] {
        let units = lanes.start / self.unit..lanes.end / self.unit;
        self.tracks.get_mut(units).unwrap_or_default()
    }

    /// Invocation `who`, numbered from 1, loads an element: the words of its lanes.
    pub(super) fn load(&mut self, view: View<'_>, who: u32, index: u32) -> Result<&[u32], Wrong> {
        let range = self.lanes_of(view, index)?;
        if !self.is_defined && self.defined[range.clone()].contains(&false) {
            return Err(Wrong::Plain(FaultKind::Undefined {
                memory: view.name.to_owned(),
                element: index,
            }));
        }
        for track in self.tracks(&range) {
            if track.arriving {
                return Err(arriving(view, index));
            }
            if track.writer != 0 && track.writer != who {
                return Err(Wrong::Race(Conflict {
                    element: index,
                    with: track.writer,
                    access: "a load of",
                    other: "has stored",
                }));
            }
            track.reader = match track.reader {
                0 => who,
                reader if reader == who => who,
                _ => SEVERAL,
            };
        }
        Ok(&self.words[range])
    }

    /// Invocation `who` stores the element whose lanes `word` gives.
    pub(super) fn store(
        &mut self,
        view: View<'_>,
        who: u32,
        index: u32,
        word: impl Fn(usize) -> u32,
    ) -> Result<(), Wrong> {
        let range = self.lanes_of(view, index)?;
        let conflict = |with, other| {
            Err(Wrong::Race(Conflict {
                element: index,
                with,
                access: "a store of",
                other,
            }))
        };
        for track in self.tracks(&range) {
            if track.arriving {
                return Err(arriving(view, index));
            }
            if track.writer != 0 && track.writer != who {
                return conflict(track.writer, "has stored");
            }
            if track.reader != 0 && track.reader != who {
                return conflict(track.reader, "has loaded");
            }
            track.writer = who;
        }
        for (lane, at) in range.enumerate() {
            self.words[at] = word(lane);
            self.defined[at] = true;
        }
        Ok(())
    }

    /// Invocation `who` begins to copy to an element: nobody may access it until it has arrived.
    pub(super) fn begin_copy(
        &mut self,
        view: View<'_>,
        who: u32,
        index: u32,
        words: &[u32],
    ) -> Result<(), Wrong> {
        self.store(view, who, index, |lane| words[lane])?;
        self.has_copies = true;
        let range = self.lanes_of(view, index)?;
        let tracks = self.tracks(&range).iter_mut();
        tracks.for_each(|track| track.arriving = true);
        Ok(())
    }

    /// What invocation `who` copied to an element is there, as if it stored it now.
    pub(super) fn end_copy(&mut self, view: View<'_>, who: u32, index: u32) -> Result<(), Wrong> {
        let range = self.lanes_of(view, index)?;
        for track in self.tracks(&range) {
            *track = Track {
                writer: who,
                ..Track::default()
            };
        }
        Ok(())
    }
}

fn arriving(view: View<'_>, element: u32) -> Wrong {
    Wrong::Plain(FaultKind::Arriving {
        memory: view.name.to_owned(),
        element,
    })
}

impl Conflict {
    /// The other invocation, from 0, if it is one.
    pub(super) fn other(self) -> Option<u32> {
        match self.with {
            SEVERAL => None,
            number => Some(number - 1),
        }
    }
}
