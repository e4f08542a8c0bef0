//! States: what lies in memory of its own between runs, and how results take its place.
//!
//! Takes regions, gives for each state the buffer that replaces it and whether it is stored right
//! there. It copies nothing.

use crate::graph::Role;
use crate::region::{Buffer, Regions};

use super::overwrite::takes_place;

/// How the result of a state's name takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// The parameter.
    pub state: Buffer,
    /// What replaces it after the run.
    pub result: Buffer,
    /// Whether the result is stored where the state lies: then it is no buffer of the plan.
    pub in_place: bool,
}

/// The updates of all states, in their order.
///
/// A result is stored in place if its region reads the old state at most at the element that it
/// stores, no later region reads it, and nobody gets it.
pub fn updates(regions: &Regions) -> Vec<Update> {
    let mut updates: Vec<Update> = Vec::new();
    let states = regions.params().filter(|(_, own)| own.role == Role::State);
    for (state, param) in states {
        let mut results = regions.results.iter();
        let result = results.find(|(name, _)| *name == param.name);
        // Rule G10 gives every state one.
        let Some((_, result)) = result else {
            continue;
        };
        let taken = updates.iter().any(|other| other.result == *result);
        updates.push(Update {
            state,
            result: *result,
            in_place: !taken && in_place(regions, state, *result),
        });
    }
    updates
}

fn in_place(regions: &Regions, state: Buffer, result: Buffer) -> bool {
    let mut producers = regions.regions.iter().enumerate();
    let producer = producers.find_map(|(place, region)| {
        let mut outputs = region.outputs.iter();
        let output = outputs.find(|output| output.buffer == result)?;
        Some((place, region, output))
    });
    let Some((place, region, output)) = producer else {
        return false;
    };
    let mut later = regions.regions[place + 1..].iter();
    let is_read = later.any(|region| region.reads().contains(&state));
    let is_given = regions.results.iter().any(|(_, buffer)| *buffer == state);
    !is_read && !is_given && takes_place(regions, region, output, state)
}
