//! Regions while rules fuse them: slots that empty, who stores a buffer and who reads it.
//!
//! Takes regions in order and edits of single slots, gives the regions that are left, in order.
//! It decides nothing.

use crate::ops::Class;
use crate::region::{
    Access, Anchor, Buffer, BufferData, Content, Output, Region, RegionId, Regions,
};
use crate::value::extents::Extents;

/// An epilogue has at most this many nodes; models use about thirty.
const NODES_MAX: usize = 128;

/// A kernel reads at most this many buffers of the arena. WebGPU grants 8 bindings; which of these
/// buffers lie in one window, and so in one binding, is not known before the plan is made, and one
/// binding each is left for what is stored and for weights and constants, which a weight program
/// packs into one buffer.
const READS_MAX: usize = 6;

/// What a rule answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is nothing for this rule.
    Elsewhere,
    /// There would be, but for this reason.
    Refused(String),
    /// Done; the slots have changed.
    Fused,
}

/// Regions in slots, in an order in which buffers are stored before they are read.
#[derive(Debug)]
pub(super) struct State {
    regions: Regions,
    slots: Vec<Option<Region>>,
    /// The slot that took over what an empty one computed.
    moved: Vec<usize>,
    /// Of each buffer, the slot that stores it.
    producers: Vec<Option<usize>>,
    /// Of each buffer, the slots that read it, each once.
    readers: Vec<Vec<usize>>,
}

impl State {
    pub(super) fn new(mut regions: Regions) -> State {
        let slots: Vec<Option<Region>> = regions.regions.drain(..).map(Some).collect();
        let mut state = State {
            moved: (0..slots.len()).collect(),
            slots,
            regions,
            producers: Vec::new(),
            readers: Vec::new(),
        };
        state.refresh();
        state.drop_unread();
        state.drop_unjoined();
        state
    }

    /// The regions as they stand.
    pub(super) fn regions(&self) -> Regions {
        Regions {
            regions: self.slots.iter().flatten().cloned().collect(),
            ..self.regions.clone()
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn region(&self, slot: usize) -> Option<&Region> {
        self.slots[slot].as_ref()
    }

    pub(super) fn origin(&self, slot: usize) -> String {
        let region = self.region(slot);
        region.map_or_else(String::new, |region| region.origin.clone())
    }

    /// The region in `slot` and its output, if it is pointwise: then it has one output only, and
    /// stores each element of the domain at its own place.
    pub(super) fn pointwise(&self, slot: usize) -> Option<(&Region, &Output)> {
        match self.region(slot) {
            Some(region) if region.anchor == Anchor::Pointwise => {
                Some((region, &region.outputs[0]))
            }
            Some(_) | None => None,
        }
    }

    /// The slot that stores a buffer, and the region there.
    pub(super) fn producer(&self, buffer: Buffer) -> Option<(usize, &Region)> {
        let slot = self.producers[buffer.0 as usize]?;
        self.region(slot).map(|region| (slot, region))
    }

    /// Whether a buffer is stored by regions, not given.
    pub(super) fn is_computed(&self, buffer: Buffer) -> bool {
        self.regions.buffer(buffer).content == Content::Computed
    }

    pub(super) fn extents(&self, buffer: Buffer) -> &Extents {
        &self.regions.buffer(buffer).extents
    }

    /// Why a buffer cannot stay within its region when `reader` takes it over.
    pub(super) fn also_read(&self, buffer: Buffer, reader: usize) -> Option<String> {
        if self.results().contains(&buffer) {
            return Some(format!("{buffer} is a result"));
        }
        if self.regions.part_of(buffer).is_some() {
            return Some(format!("{buffer} is joined with others"));
        }
        let readers = &self.readers[buffer.0 as usize];
        let others = readers.iter().filter(|&&slot| slot != reader).count();
        match others {
            0 => None,
            1 => Some(format!("{buffer} is read by another region")),
            _ => Some(format!("{buffer} is read by {others} other regions")),
        }
    }

    /// The accesses of a region to one buffer: the numbers of the operands, and the index that
    /// they share; or why they share none.
    pub(super) fn only_access<'a>(
        &self,
        region: &'a Region,
        buffer: Buffer,
    ) -> Result<(&'a Access, Vec<usize>), String> {
        let reads = |access: &&Access| access.pieces.iter().any(|p| p.buffer == buffer);
        let numbered = region.operands.iter().enumerate();
        let numbers = numbered.filter(|(_, access)| reads(access)).map(|(n, _)| n);
        let numbers: Vec<usize> = numbers.collect();
        let first = &region.operands[numbers[0]];
        if first.single().is_none() {
            return Err(format!("{buffer} is only a part of what is read"));
        }
        match numbers.iter().all(|&n| region.operands[n] == *first) {
            true => Ok((first, numbers)),
            false => Err(format!("{buffer} is read in several orders")),
        }
    }

    /// Why a region is too much for one kernel, if it is.
    fn too_intricate(&self, region: &Region) -> Option<String> {
        let mut outputs = region.outputs.iter();
        if let Some(output) = outputs.find(|output| output.nodes.len() > NODES_MAX) {
            let found = output.nodes.len();
            return Some(format!(
                "{found} nodes in one epilogue, wanted at most {NODES_MAX}"
            ));
        }
        let mut read = region.reads();
        read.retain(|buffer| !self.regions.buffer(*buffer).is_fixed());
        if read.len() > READS_MAX {
            let found = read.len();
            return Some(format!(
                "{found} buffers to read, wanted at most {READS_MAX}"
            ));
        }
        let mut operands = region.operands.iter();
        operands.find_map(|access| access.too_intricate(&self.regions.buffers))
    }

    /// A new buffer.
    pub(super) fn add_buffer(&mut self, extents: Extents) -> Buffer {
        let buffer = Buffer(self.regions.buffers.len() as u32);
        let data = BufferData::new(extents, Content::Computed);
        self.regions.buffers.push(data);
        buffer
    }

    /// Puts a region that also computes what the slots `from` did in `slot`.
    pub(super) fn put(&mut self, slot: usize, region: Region, from: &[usize]) {
        for &from in from {
            self.slots[from] = None;
            self.moved[from] = slot;
        }
        self.slots[slot] = Some(region);
        self.refresh();
    }

    /// Puts a region made from others in its slot, unless it is too intricate.
    pub(super) fn replace(&mut self, slot: usize, fused: Region, from: &[usize]) -> Verdict {
        match self.too_intricate(&fused) {
            Some(reason) => Verdict::Refused(reason),
            None => {
                self.put(slot, fused, from);
                Verdict::Fused
            }
        }
    }

    /// Notes anew who stores and who reads.
    fn refresh(&mut self) {
        self.producers = vec![None; self.regions.buffers.len()];
        self.readers = vec![Vec::new(); self.regions.buffers.len()];
        for (slot, region) in self.slots.iter().enumerate() {
            let Some(region) = region else { continue };
            for buffer in region.stores() {
                self.producers[buffer.0 as usize] = Some(slot);
            }
            for buffer in self.needs(region) {
                self.readers[buffer.0 as usize].push(slot);
            }
        }
    }

    /// The buffers that a region reads, and the parts of those that are joined.
    fn needs(&self, region: &Region) -> Vec<Buffer> {
        let mut needs = region.reads();
        let parts: Vec<Buffer> = needs
            .iter()
            .flat_map(|&buffer| self.regions.parts(buffer))
            .copied()
            .collect();
        needs.extend(parts);
        needs
    }

    /// The results, and the parts of those that are joined.
    fn results(&self) -> Vec<Buffer> {
        let results = self.regions.results.iter();
        let mut results: Vec<Buffer> = results.map(|(_, buffer)| *buffer).collect();
        let parts: Vec<Buffer> = results
            .iter()
            .flat_map(|&buffer| self.regions.parts(buffer))
            .copied()
            .collect();
        results.extend(parts);
        results
    }

    /// Forgets joined buffers whose parts nobody needed.
    fn drop_unjoined(&mut self) {
        self.refresh();
        let producers = &self.producers;
        let stored = |part: &Buffer| producers[part.0 as usize].is_some();
        self.regions
            .joined
            .retain(|joined| joined.parts.iter().all(stored));
    }

    /// Empties the slots whose buffers nobody reads.
    fn drop_unread(&mut self) {
        let kept = self.results();
        for slot in (0..self.slots.len()).rev() {
            let unread = self.region(slot).is_some_and(|region| {
                let mut stored = region.stores().into_iter();
                stored.all(|b| self.readers[b.0 as usize].is_empty() && !kept.contains(&b))
            });
            if unread {
                let region = self.slots[slot].take();
                let needs = region.iter().flat_map(|region| self.needs(region));
                for buffer in needs.collect::<Vec<Buffer>>() {
                    self.readers[buffer.0 as usize].retain(|&reader| reader != slot);
                }
            }
        }
    }

    /// The regions left, and where each slot went.
    pub(super) fn finish(mut self) -> (Regions, Vec<Option<RegionId>>) {
        let mut places = vec![None; self.slots.len()];
        for (slot, region) in self.slots.iter_mut().enumerate() {
            if let Some(region) = region.take() {
                places[slot] = Some(RegionId(self.regions.regions.len() as u32));
                self.regions.regions.push(region);
            }
        }
        let place = |mut slot: usize| {
            while self.moved[slot] != slot {
                slot = self.moved[slot];
            }
            places[slot]
        };
        let renamed = (0..places.len()).map(place).collect();
        (self.regions, renamed)
    }
}

/// Whether anchors of this class sum products: the regions that cost most.
pub(super) fn contracts(class: Class) -> bool {
    match class {
        Class::Gemm | Class::Conv | Class::Attention => true,
        Class::Pointwise | Class::Movement | Class::Row | Class::Gather | Class::Plain => false,
    }
}
