//! Recomputation: less memory for more time.
//!
//! Takes regions and the bytes that their values may have, gives regions that mean the same and
//! compute some buffers a second time instead of keeping them, until the peak fits; and what was
//! chosen. Which buffers: those that the peak holds between two uses far apart, the most bytes for
//! a second first. What is computed again has the very bits it had. It knows no forward and no
//! backward pass, and no machine but its rates.
//!
//! # Source
//! Chen et al. 2016 (arXiv 1604.06174) for the trade; the greedy choice at the peak by bytes for a
//! second is that of rematerialisation in compilers (Briggs et al. 1992, PLDI).

use std::collections::BTreeMap;

use crate::region::{Buffer, Content, Region, RegionId, Regions};
use crate::target::Target;

use super::{Limits, lifetimes, live, share};

/// A buffer that depends on others which are gone is computed again with at most so many of these.
const CHAIN_MAX: usize = 12;

/// A buffer that is computed a second time.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputation {
    /// The region that computes it again, in the new order.
    pub region: RegionId,
    /// Where in the source model it comes from.
    pub origin: String,
    /// Bytes of what it stores.
    pub bytes: u64,
    /// Operations that it does again.
    pub flops: u64,
}

/// Regions that keep to a budget as well as they can.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputed {
    /// The regions, in their new order.
    pub regions: Regions,
    /// What is computed twice, in order.
    pub chosen: Vec<Recomputation>,
    /// Where each region of before stands now.
    pub places: Vec<RegionId>,
    /// The most bytes alive at once before.
    pub bytes_before: u64,
    /// The most bytes alive at once now; above the budget if nothing more can be gained.
    pub bytes: u64,
}

/// One region of the list under construction.
#[derive(Debug, Clone)]
struct Step {
    region: Region,
    again: bool,
}

/// Drops buffers that the peak holds and computes them again, until at most `bytes_max` bytes are
/// alive at once.
pub fn recompute(regions: &Regions, bytes_max: u64, target: &Target) -> Recomputed {
    let mut state = State::new(regions, target);
    let (mut peak, bytes_before) = state.peak();
    let mut bytes = bytes_before;
    // Every step drops a buffer at the peak; more than a few for each region gain nothing.
    let mut left = 4 * regions.regions.len();
    while bytes > bytes_max && left > 0 {
        let Some(choice) = state.best(peak) else {
            break;
        };
        state.apply(&choice);
        (peak, bytes) = state.peak();
        left -= 1;
    }
    state.finish(bytes_before, bytes)
}

/// A buffer to drop after its last use before the peak, and how it comes back.
#[derive(Debug)]
struct Choice {
    buffer: Buffer,
    /// The position of the first use after the peak: what is computed again goes before it.
    before: usize,
    /// Positions of the regions to run again, in their order.
    chain: Vec<usize>,
}

struct State<'a> {
    regions: Regions,
    steps: Vec<Step>,
    target: &'a Target,
}

/// Where buffers are stored and read, by position.
struct Uses {
    stored: Vec<Option<usize>>,
    read: Vec<Vec<usize>>,
    lasting: Vec<bool>,
}

impl Uses {
    /// The last position at which a buffer is needed.
    fn last(&self, buffer: Buffer) -> usize {
        match self.lasting[buffer.0 as usize] {
            true => usize::MAX,
            false => {
                let read = self.read[buffer.0 as usize].last().copied();
                read.or(self.stored[buffer.0 as usize]).unwrap_or(0)
            }
        }
    }
}

impl State<'_> {
    fn new<'a>(regions: &Regions, target: &'a Target) -> State<'a> {
        let mut regions = regions.clone();
        let steps = std::mem::take(&mut regions.regions).into_iter();
        State {
            regions,
            steps: steps
                .map(|region| Step {
                    region,
                    again: false,
                })
                .collect(),
            target,
        }
    }

    /// The position at which the most bytes are alive, and these bytes.
    fn peak(&mut self) -> (usize, u64) {
        let steps = self.steps.iter();
        self.regions.regions = steps.map(|step| step.region.clone()).collect();
        let lifetimes = lifetimes(&self.regions);
        let Ok((storages, places)) = share::share(&lifetimes, &Limits::NONE) else {
            return (0, u64::MAX);
        };
        let live = live(&storages, &places);
        let most = live.iter().enumerate().max_by_key(|(_, bytes)| **bytes);
        most.map_or((0, 0), |(time, &bytes)| (time.saturating_sub(1), bytes))
    }

    fn uses(&self) -> Uses {
        let count = self.regions.buffers.len();
        let mut uses = Uses {
            stored: vec![None; count],
            read: vec![Vec::new(); count],
            lasting: self
                .regions
                .buffers
                .iter()
                .map(|data| match &data.content {
                    Content::Constant(_) => true,
                    Content::Param(param) => param.role != crate::graph::Role::Input,
                    Content::Computed => false,
                })
                .collect(),
        };
        for (position, step) in self.steps.iter().enumerate() {
            for buffer in step.region.reads() {
                uses.read[buffer.0 as usize].push(position);
            }
            for buffer in step.region.stores() {
                uses.stored[buffer.0 as usize] = Some(position);
            }
        }
        for (_, buffer) in &self.regions.results {
            uses.lasting[buffer.0 as usize] = true;
        }
        uses
    }

    /// The choice that frees the most bytes at position `peak` for a second.
    fn best(&self, peak: usize) -> Option<Choice> {
        let uses = self.uses();
        let mut best: Option<(f64, Choice)> = None;
        for number in 0..self.regions.buffers.len() {
            let buffer = Buffer(number as u32);
            let Some(choice) = self.candidate(buffer, peak, &uses) else {
                continue;
            };
            let Some(saved) = self.saved(&choice, peak, &uses) else {
                continue;
            };
            let seconds: f64 = choice.chain.iter().map(|&step| self.seconds(step)).sum();
            let worth = saved as f64 / seconds.max(1e-9);
            if best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, choice));
            }
        }
        best.map(|(_, choice)| choice)
    }

    /// How `buffer` could be missing at the peak.
    fn candidate(&self, buffer: Buffer, peak: usize, uses: &Uses) -> Option<Choice> {
        let stored = uses.stored[buffer.0 as usize].filter(|&stored| stored < peak)?;
        let reads = &uses.read[buffer.0 as usize];
        if uses.lasting[buffer.0 as usize] || reads.contains(&peak) {
            return None;
        }
        let before = reads.iter().copied().find(|&read| read > peak)?;
        let mut chain = Vec::new();
        self.require(stored, before, peak, uses, &mut chain)?;
        chain.sort_unstable();
        Some(Choice {
            buffer,
            before,
            chain,
        })
    }

    /// Notes that the region at `step` runs again before `before`, after those whose results it
    /// needs and which would be gone. `None` if these are too many.
    fn require(
        &self,
        step: usize,
        before: usize,
        peak: usize,
        uses: &Uses,
        chain: &mut Vec<usize>,
    ) -> Option<()> {
        if chain.contains(&step) {
            return Some(());
        }
        if chain.len() == CHAIN_MAX {
            return None;
        }
        chain.push(step);
        for operand in self.steps[step].region.reads() {
            let last = uses.last(operand);
            // What is there anyway at the peak may live on; what is not is computed again too.
            if last >= before || last >= peak {
                continue;
            }
            // An input lives on, at the cost of its bytes.
            if let Some(stored) = uses.stored[operand.0 as usize] {
                self.require(stored, before, peak, uses, chain)?;
            }
        }
        Some(())
    }

    /// Bytes less at the peak; `None` if there are none.
    fn saved(&self, choice: &Choice, peak: usize, uses: &Uses) -> Option<u64> {
        let freed = self.regions.buffer_bytes(choice.buffer);
        let mut kept: BTreeMap<Buffer, u64> = BTreeMap::new();
        for &step in &choice.chain {
            for operand in self.steps[step].region.reads() {
                let again = uses.stored[operand.0 as usize]
                    .is_some_and(|stored| choice.chain.contains(&stored));
                if !again && uses.last(operand) < peak {
                    kept.insert(operand, self.regions.buffer_bytes(operand));
                }
            }
        }
        let kept: u64 = kept.values().sum();
        freed.checked_sub(kept).filter(|&saved| saved > 0)
    }

    /// A region's time, by the rates of the target.
    fn seconds(&self, step: usize) -> f64 {
        let region = &self.steps[step].region;
        let rate = self.target.flops_per_second * self.target.threads.max(1) as f64;
        let flops = self.regions.flops(region) as f64 / rate;
        let bytes = self.regions.bytes(region) as f64 / self.target.bytes_per_second;
        flops.max(bytes)
    }

    /// Puts what is computed again in its place; later regions read that.
    fn apply(&mut self, choice: &Choice) {
        let mut renamed: BTreeMap<Buffer, Buffer> = BTreeMap::new();
        let mut again = Vec::with_capacity(choice.chain.len());
        for &step in &choice.chain {
            let mut region = self.steps[step].region.clone();
            rename_reads(&mut region, &renamed);
            for output in &mut region.outputs {
                for buffer in [Some(&mut output.buffer), output.moments.as_mut()] {
                    let Some(buffer) = buffer else { continue };
                    let data = self.regions.buffer(*buffer).clone();
                    let new = Buffer(self.regions.buffers.len() as u32);
                    self.regions.buffers.push(data);
                    renamed.insert(*buffer, new);
                    *buffer = new;
                }
            }
            again.push(Step {
                region,
                again: true,
            });
        }
        // What was computed on the way serves later readers too.
        for step in &mut self.steps[choice.before..] {
            rename_reads(&mut step.region, &renamed);
        }
        self.steps.splice(choice.before..choice.before, again);
    }

    fn finish(mut self, bytes_before: u64, bytes: u64) -> Recomputed {
        let (mut chosen, mut places) = (Vec::new(), Vec::new());
        self.regions.regions = Vec::with_capacity(self.steps.len());
        for Step { region, again } in self.steps {
            let id = RegionId(self.regions.regions.len() as u32);
            if !again {
                places.push(id);
            } else {
                let stored = region.stores().into_iter();
                chosen.push(Recomputation {
                    region: id,
                    origin: region.origin.clone(),
                    bytes: stored.map(|buffer| self.regions.buffer_bytes(buffer)).sum(),
                    flops: self.regions.flops(&region),
                });
            }
            self.regions.regions.push(region);
        }
        Recomputed {
            regions: self.regions,
            chosen,
            places,
            bytes_before,
            bytes,
        }
    }
}

fn rename_reads(region: &mut Region, renamed: &BTreeMap<Buffer, Buffer>) {
    let pieces = region.operands.iter_mut();
    for piece in pieces.flat_map(|operand| &mut operand.pieces) {
        if let Some(&new) = renamed.get(&piece.buffer) {
            piece.buffer = new;
        }
    }
}
