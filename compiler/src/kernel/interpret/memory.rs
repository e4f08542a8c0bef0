//! Memories of the interpreter, with who accessed what.
//!
//! Takes accesses of numbered invocations in any order, gives elements and the faults of an
//! access: outside of the memory, of what is undefined, or in a race. It knows no statement.

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

/// Who accessed an element: numbers of invocations from 1, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Track {
    writer: u32,
    reader: u32,
}

/// More than one invocation.
const SEVERAL: u32 = u32::MAX;

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

/// One memory.
#[derive(Debug)]
pub(super) struct Bank {
    name: String,
    element: Type,
    elements: u32,
    words: Vec<u32>,
    /// By lane.
    defined: Vec<bool>,
    /// Whether all is defined: then `defined` need not be asked.
    is_defined: bool,
    /// By element; empty where nobody stores.
    tracks: Vec<Track>,
}

impl Bank {
    /// A memory with contents of the right size.
    pub(super) fn new(
        name: &str,
        element: Type,
        elements: u32,
        written: bool,
        contents: BufferContents,
    ) -> Bank {
        let tracked = if written { elements as usize } else { 0 };
        Bank {
            name: name.to_owned(),
            element,
            elements,
            is_defined: contents.defined.iter().all(|&defined| defined),
            words: contents.words,
            defined: contents.defined,
            tracks: vec![Track::default(); tracked],
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
        self.order();
    }

    /// What was accessed before comes before all that follows.
    pub(super) fn order(&mut self) {
        self.tracks.fill(Track::default());
    }

    fn element_at(&self, index: u32) -> Result<usize, Wrong> {
        match index < self.elements {
            true => Ok(index as usize),
            false => Err(Wrong::Plain(FaultKind::OutOfBounds {
                memory: self.name.clone(),
                index: index.cast_signed(),
                elements: self.elements,
            })),
        }
    }

    /// Invocation `who`, numbered from 1, loads an element: the words of its lanes.
    pub(super) fn load(&mut self, who: u32, index: u32) -> Result<&[u32], Wrong> {
        let element = self.element_at(index)?;
        let lanes = usize::from(self.element.lanes);
        let range = element * lanes..(element + 1) * lanes;
        if !self.is_defined && self.defined[range.clone()].contains(&false) {
            return Err(Wrong::Plain(FaultKind::Undefined {
                memory: self.name.clone(),
                element: index,
            }));
        }
        if let Some(track) = self.tracks.get_mut(element) {
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
        who: u32,
        index: u32,
        word: impl Fn(usize) -> u32,
    ) -> Result<(), Wrong> {
        let element = self.element_at(index)?;
        let track = &mut self.tracks[element];
        let conflict = |with, other| {
            Err(Wrong::Race(Conflict {
                element: index,
                with,
                access: "a store of",
                other,
            }))
        };
        if track.writer != 0 && track.writer != who {
            return conflict(track.writer, "has stored");
        }
        if track.reader != 0 && track.reader != who {
            return conflict(track.reader, "has loaded");
        }
        track.writer = who;
        let lanes = usize::from(self.element.lanes);
        for lane in 0..lanes {
            self.words[element * lanes + lane] = word(lane);
            self.defined[element * lanes + lane] = true;
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
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
