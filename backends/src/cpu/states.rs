//! States of an executor: memory of their own between runs.
//!
//! Takes a program and the first state, gives the cells of each and, after a run, puts results in
//! their places where no region stored them there.

use std::collections::BTreeMap;

use compiler::graph::{Role, TensorType};
use compiler::plan::{Update, updates};
use compiler::region::{Buffer, Content, Regions};
use compiler::value::tensor::Tensor;

use super::arena::{ALIGNMENT, Arena, Cells};
use super::error::ExecuteError;
use super::launch::reserve;
use super::parameters::check;

/// The states of one program.
#[derive(Debug)]
pub(crate) struct States {
    /// The first byte of each state, and of the result that is stored in its place.
    offsets: BTreeMap<Buffer, usize>,
    updates: Vec<Update>,
    arena: Arena,
}

impl States {
    /// The states of a program, taken out of `given`.
    ///
    /// # Errors
    /// When one is missing or of another type, or memory cannot be had.
    pub(crate) fn new(
        regions: &Regions,
        given: &mut BTreeMap<String, Tensor>,
    ) -> Result<States, ExecuteError> {
        let updates = updates(regions);
        let mut offsets = BTreeMap::new();
        let mut bytes = 0usize;
        for update in &updates {
            offsets.insert(update.state, bytes);
            if update.in_place {
                offsets.insert(update.result, bytes);
            }
            let own = usize::try_from(regions.buffer_bytes(update.state)).ok();
            let next =
                own.and_then(|own| bytes.checked_add(own.checked_next_multiple_of(ALIGNMENT)?));
            bytes = next.ok_or(ExecuteError::Memory {
                bytes: u64::MAX,
                what: "states",
            })?;
        }
        let mut states = States {
            offsets,
            updates,
            arena: reserve("states", bytes as u64)?,
        };
        for number in 0..states.updates.len() {
            let state = states.updates[number].state;
            let tensor = given.remove(name(regions, state));
            states.set(regions, state, tensor.as_ref())?;
        }
        Ok(states)
    }

    /// The cells of a state, or of the result that is stored in its place.
    pub(crate) fn cells(&mut self, regions: &Regions, buffer: Buffer) -> Option<Cells> {
        let offset = *self.offsets.get(&buffer)?;
        let extents = &regions.buffer(buffer).extents;
        Some(self.arena.cells(offset, extents.dtype, extents.elements()))
    }

    /// The states with their names.
    pub(crate) fn named<'a>(
        &'a self,
        regions: &'a Regions,
    ) -> impl Iterator<Item = (&'a str, Buffer)> {
        let updates = self.updates.iter();
        updates.map(|update| (name(regions, update.state), update.state))
    }

    /// Replaces a state.
    ///
    /// # Errors
    /// When there is no tensor, it is of another type, or cannot be read.
    pub(crate) fn set(
        &mut self,
        regions: &Regions,
        state: Buffer,
        tensor: Option<&Tensor>,
    ) -> Result<(), ExecuteError> {
        let wanted = TensorType::from(&regions.buffer(state).extents);
        let tensor = check(Role::State, name(regions, state), &wanted, tensor, true)?;
        if let Some(cells) = self.cells(regions, state) {
            cells.fill(tensor.fetched()?.cast(wanted.dtype).bytes());
        }
        Ok(())
    }

    /// After a run: puts results in the places of states, all at once.
    pub(crate) fn update(&self, cells: &[Cells]) {
        let moved = |update: &&Update| !update.in_place && update.result != update.state;
        let moved = self.updates.iter().filter(moved);
        // A state may be what replaces another.
        let replaced: Vec<(Buffer, Vec<u8>)> = moved
            .map(|update| (update.state, cells[update.result.0 as usize].to_bytes()))
            .collect();
        for (state, bytes) in replaced {
            cells[state.0 as usize].fill(&bytes);
        }
    }
}

fn name(regions: &Regions, state: Buffer) -> &str {
    match &regions.buffer(state).content {
        Content::Param(param) => &param.name,
        Content::Constant(_) | Content::Computed => "",
    }
}
