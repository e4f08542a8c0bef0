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

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Role;
use crate::region::{Buffer, BufferData, Region, RegionId, Regions};
use crate::target::Target;

use super::overwrite::overwritable;
use super::states::{Update, updates};

/// A buffer that depends on others which are gone is computed again with at most so many of these.
const CHAIN_MAX: usize = 16;

/// Buffers dropped at one peak before the next is looked for.
const DROPPED_MAX: usize = 32;

/// After so many peaks in a row that are no lower than the lowest, nothing more is to be gained.
const VAIN_MAX: usize = 64;

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
    /// For each output, the buffers whose memory it may take over if they die here.
    overwrites: Vec<(Buffer, Vec<Buffer>)>,
    again: bool,
}

/// Drops buffers that the peak holds and computes them again, until at most `bytes_max` bytes are
/// alive at once.
pub fn recompute(regions: &Regions, bytes_max: u64, target: &Target) -> Recomputed {
    let mut state = State::new(regions, target);
    let mut uses = state.uses();
    let (mut peak, bytes_before) = state.peak(&uses);
    let (mut bytes, mut vain) = (bytes_before, 0);
    let mut lowest = (bytes, state.clone());
    while bytes > bytes_max && vain < VAIN_MAX {
        let choices = state.choices(peak, bytes - bytes_max, &uses);
        if choices.is_empty() {
            break;
        }
        choices.iter().for_each(|choice| state.apply(choice));
        uses = state.uses();
        (peak, bytes) = state.peak(&uses);
        vain += 1;
        if bytes < lowest.0 {
            lowest = (bytes, state.clone());
            vain = 0;
        }
    }
    let (bytes, state) = lowest;
    state.finish(bytes_before, bytes)
}

/// A buffer to drop after its last use before the peak, and how it comes back.
#[derive(Debug)]
struct Choice {
    /// The position of the first use after the peak: what is computed again goes before it.
    before: usize,
    /// Positions of the regions to run again, in their order.
    chain: Vec<usize>,
    /// Bytes less at the peak.
    saved: u64,
    /// Bytes less at the peak for a second more, times the regions during which it is gone: what
    /// is gone for long lowers the next peaks too.
    worth: f64,
}

#[derive(Clone)]
struct State<'a> {
    // Its list of regions is empty: the steps have them.
    regions: Regions,
    steps: Vec<Step>,
    /// States that are updated where they lie, and what takes their places.
    updates: Vec<Update>,
    target: &'a Target,
}

/// Where buffers are stored and read, by position.
struct Uses {
    stored: Vec<Option<usize>>,
    read: Vec<Vec<usize>>,
    /// Whether it is there before and after the run.
    lasting: Vec<bool>,
    /// Whether it is a result.
    result: Vec<bool>,
}

impl Uses {
    /// The last position at which a buffer is needed.
    fn last(&self, buffer: Buffer) -> usize {
        let number = buffer.0 as usize;
        match self.lasting[number] || self.result[number] {
            true => usize::MAX,
            false => {
                let read = self.read[number].last().copied();
                read.or(self.stored[number]).unwrap_or(0)
            }
        }
    }
}

impl State<'_> {
    fn new<'a>(regions: &Regions, target: &'a Target) -> State<'a> {
        let step = |region: &Region| Step {
            overwrites: region
                .outputs
                .iter()
                .map(|output| (output.buffer, overwritable(regions, region, output)))
                .collect(),
            region: region.clone(),
            again: false,
        };
        let steps = regions.regions.iter().map(step).collect();
        let updates = updates(regions).into_iter();
        let updates = updates.filter(|update| update.in_place).collect();
        let mut regions = regions.clone();
        regions.regions.clear();
        State {
            regions,
            steps,
            updates,
            target,
        }
    }

    /// The position at which the most bytes are alive, and these bytes.
    fn peak(&self, uses: &Uses) -> (usize, u64) {
        let count = self.steps.len();
        let mut changes = vec![0i128; count + 1];
        let bytes = |buffer: Buffer| i128::from(self.regions.buffer_bytes(buffer));
        for number in 0..self.regions.buffers.len() {
            let buffer = Buffer(number as u32);
            let used = uses.stored[number].is_some() || !uses.read[number].is_empty();
            if uses.lasting[number] || !used {
                continue;
            }
            // What no region stores is given before the first.
            changes[uses.stored[number].unwrap_or(0)] += bytes(buffer);
            if let Some(freed) = changes.get_mut(uses.last(buffer).saturating_add(1)) {
                *freed -= bytes(buffer);
            }
        }
        let (mut alive, mut most) = (0, (0, 0));
        for (position, step) in self.steps.iter().enumerate() {
            alive += changes[position];
            let during = alive - self.shared(position, step, uses);
            if during > most.1 {
                most = (position, during);
            }
        }
        (most.0, u64::try_from(most.1).unwrap_or(u64::MAX))
    }

    /// Bytes of outputs of a step that take the place of what dies there.
    fn shared(&self, position: usize, step: &Step, uses: &Uses) -> i128 {
        let mut taken = BTreeSet::new();
        let mut bytes = 0;
        for (output, overwrites) in &step.overwrites {
            let mut dying = overwrites.iter();
            let free =
                |buffer: &&Buffer| uses.last(**buffer) == position && !taken.contains(*buffer);
            if let Some(&buffer) = dying.find(free) {
                taken.insert(buffer);
                bytes += i128::from(self.regions.buffer_bytes(*output));
            }
        }
        bytes
    }

    fn uses(&self) -> Uses {
        let count = self.regions.buffers.len();
        let lasting = |data: &BufferData| match data.role() {
            Some(role) => role != Role::Input,
            None => data.is_fixed(),
        };
        let mut uses = Uses {
            stored: vec![None; count],
            read: vec![Vec::new(); count],
            lasting: self.regions.buffers.iter().map(lasting).collect(),
            result: vec![false; count],
        };
        for (position, step) in self.steps.iter().enumerate() {
            for buffer in step.region.reads() {
                uses.read[buffer.0 as usize].push(position);
            }
            for buffer in step.region.stores() {
                uses.stored[buffer.0 as usize] = Some(position);
            }
        }
        // These have no memory of their own.
        for update in &self.updates {
            uses.lasting[update.result.0 as usize] = true;
        }
        // What is joined stays from its first part on; parts lie in it.
        for joined in &self.regions.joined {
            let whole = joined.whole.0 as usize;
            let parts = joined.parts.iter().map(|part| part.0 as usize);
            uses.stored[whole] = parts.clone().filter_map(|part| uses.stored[part]).min();
            uses.result[whole] = true;
            parts.for_each(|part| uses.lasting[part] = true);
        }
        for (_, buffer) in &self.regions.results {
            uses.result[buffer.0 as usize] = true;
        }
        uses
    }

    /// What to drop at position `peak` so that it holds `wanted` bytes less: the most bytes for a
    /// second first, none that needs another one.
    fn choices(&self, peak: usize, wanted: u64, uses: &Uses) -> Vec<Choice> {
        let buffers = (0..self.regions.buffers.len()).map(|number| Buffer(number as u32));
        let mut found: Vec<Choice> = buffers
            .filter_map(|buffer| self.candidate(buffer, peak, uses))
            .collect();
        found.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        let (mut dropped, mut needed) = (BTreeSet::new(), BTreeSet::new());
        let (mut chosen, mut saved): (Vec<Choice>, u64) = (Vec::new(), 0);
        for choice in found {
            if saved >= wanted || chosen.len() == DROPPED_MAX {
                break;
            }
            let stored: BTreeSet<Buffer> = self.each(&choice.chain, Region::stores).collect();
            let read: BTreeSet<Buffer> = self.each(&choice.chain, Region::reads).collect();
            if stored.is_disjoint(&needed) && read.is_disjoint(&dropped) {
                dropped.extend(&stored);
                needed.extend(&read);
                saved += choice.saved;
                chosen.push(choice);
            }
        }
        // What goes in later leaves the positions of the others as they are.
        chosen.sort_by_key(|choice| std::cmp::Reverse(choice.before));
        chosen
    }

    /// The buffers that the steps of a chain read, or store.
    fn each<'a>(
        &'a self,
        chain: &'a [usize],
        buffers: fn(&Region) -> Vec<Buffer>,
    ) -> impl Iterator<Item = Buffer> + 'a {
        let regions = chain.iter().map(|&step| &self.steps[step].region);
        regions.flat_map(buffers)
    }

    /// How `buffer` could be missing at the peak.
    fn candidate(&self, buffer: Buffer, peak: usize, uses: &Uses) -> Option<Choice> {
        let number = buffer.0 as usize;
        let stored = uses.stored[number].filter(|&stored| stored < peak)?;
        let reads = &uses.read[number];
        if uses.last(buffer) == usize::MAX || reads.binary_search(&peak).is_ok() {
            return None;
        }
        let next = reads.partition_point(|&read| read <= peak);
        let before = *reads.get(next)?;
        let after = next.checked_sub(1).map_or(stored, |last| reads[last]);
        let mut chain = Vec::new();
        self.require(stored, before, peak, uses, &mut chain)?;
        chain.sort_unstable();
        // A state that has become another is not what it was.
        let read: BTreeSet<Buffer> = self.each(&chain, Region::reads).collect();
        let mut updates = self.updates.iter();
        let changed = |update: &Update| {
            let at = uses.stored[update.result.0 as usize];
            read.contains(&update.state) && at.is_some_and(|at| at < before)
        };
        if updates.any(changed) {
            return None;
        }
        let saved = self.saved(buffer, &chain, peak, uses)?;
        let seconds: f64 = chain.iter().map(|&step| self.seconds(step)).sum();
        Some(Choice {
            before,
            chain,
            saved,
            worth: saved as f64 * (before - after) as f64 / seconds.max(1e-9),
        })
    }

    /// Notes that the region at `step` runs again before `before`, after those whose results it
    /// needs and which would be gone. `None` if these are too many, or something that it needs has
    /// become another.
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
    fn saved(&self, buffer: Buffer, chain: &[usize], peak: usize, uses: &Uses) -> Option<u64> {
        let mut kept: BTreeMap<Buffer, u64> = BTreeMap::new();
        for operand in self.each(chain, Region::reads) {
            let stored = uses.stored[operand.0 as usize];
            let again = stored.is_some_and(|stored| chain.contains(&stored));
            if !again && uses.last(operand) < peak {
                kept.insert(operand, self.regions.buffer_bytes(operand));
            }
        }
        let kept: u64 = kept.values().sum();
        let saved = self.regions.buffer_bytes(buffer).checked_sub(kept);
        saved.filter(|&saved| saved > 0)
    }

    /// A region's time, by the rates of the target.
    fn seconds(&self, step: usize) -> f64 {
        let region = &self.steps[step].region;
        let rate = self.target.compute.flops_per_second * self.target.compute.threads.max(1) as f64;
        let flops = self.regions.flops(region) as f64 / rate;
        let bytes = self.regions.bytes(region) as f64 / self.target.compute.bytes_per_second;
        flops.max(bytes)
    }

    /// Puts what is computed again in its place; later regions read that.
    fn apply(&mut self, choice: &Choice) {
        let mut renamed: BTreeMap<Buffer, Buffer> = BTreeMap::new();
        let mut again = Vec::with_capacity(choice.chain.len());
        for &step in &choice.chain {
            let mut step = self.steps[step].clone();
            step.again = true;
            step.rename_reads(&renamed);
            for output in &mut step.region.outputs {
                for buffer in [Some(&mut output.buffer), output.moments.as_mut()] {
                    let Some(buffer) = buffer else { continue };
                    let data = self.regions.buffer(*buffer).clone();
                    let new = Buffer(self.regions.buffers.len() as u32);
                    self.regions.buffers.push(data);
                    renamed.insert(*buffer, new);
                    *buffer = new;
                }
            }
            for (output, _) in &mut step.overwrites {
                *output = renamed.get(output).copied().unwrap_or(*output);
            }
            again.push(step);
        }
        // What was computed on the way serves later readers too.
        for step in &mut self.steps[choice.before..] {
            step.rename_reads(&renamed);
        }
        self.steps.splice(choice.before..choice.before, again);
    }

    fn finish(mut self, bytes_before: u64, bytes: u64) -> Recomputed {
        let (mut chosen, mut places) = (Vec::new(), Vec::new());
        for Step { region, again, .. } in self.steps {
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

impl Step {
    fn rename_reads(&mut self, renamed: &BTreeMap<Buffer, Buffer>) {
        let pieces = self.region.operands.iter_mut();
        let read = pieces.flat_map(|operand| &mut operand.pieces);
        let read = read.map(|piece| &mut piece.buffer);
        let overwrites = self.overwrites.iter_mut().flat_map(|(_, dying)| dying);
        for buffer in read.chain(overwrites) {
            if let Some(&new) = renamed.get(buffer) {
                *buffer = new;
            }
        }
    }
}
