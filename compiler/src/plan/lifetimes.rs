//! When the buffers of regions live, and which may take the memory of others.
//!
//! Takes regions, gives a lifetime for each buffer that a run needs memory for, or for each
//! weight or state. Weights, states and constants outlive a run and are not among the former.

use std::collections::BTreeSet;

use crate::graph::{Param, Role};
use crate::region::{Buffer, Regions};

use super::overwrite::overwritable;
use super::states::updates;

/// A buffer that wants memory, from the time at which it is stored to its last use.
///
/// Inputs are there from time 0, and the region `r0` runs at time 1. What dies when a region runs
/// is still needed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// The buffer.
    pub buffer: Buffer,
    /// The class of the region that stores it or the kind of parameter, and where in the source
    /// model it comes from.
    pub origin: String,
    /// Its size.
    pub bytes: u64,
    /// When it is stored.
    pub birth: u32,
    /// When it is read last; [`END`] for what outlives the run.
    pub death: u32,
    /// Earlier buffers of the same size that it may overwrite if they die at its birth.
    pub overwrites: Vec<Buffer>,
}

/// The death of results and weights.
pub const END: u32 = u32::MAX;

/// The lifetimes of inputs, which are given before the run begins, and of what regions store,
/// ordered by birth. The region `r0` runs at time 1. New states that are stored where the old ones
/// lie need no memory.
///
/// What a region stores may overwrite a buffer of as many bytes that its epilogue alone reads,
/// each element just where and when the result takes its place.
pub fn lifetimes(regions: &Regions) -> Vec<Lifetime> {
    let mut deaths: Vec<u32> = vec![0; regions.buffers.len()];
    for (id, region) in regions.iter() {
        for buffer in region.reads() {
            deaths[buffer.0 as usize] = id.0 + 1;
        }
    }
    for (_, buffer) in &regions.results {
        deaths[buffer.0 as usize] = END;
    }
    for joined in &regions.joined {
        let parts = joined.parts.iter();
        let last = parts.map(|part| deaths[part.0 as usize]).max().unwrap_or(0);
        let death = &mut deaths[joined.whole.0 as usize];
        *death = last.max(*death);
    }
    let lifetime = |buffer: Buffer, birth: u32, kind: &str, place: &str| Lifetime {
        buffer,
        origin: origin(kind, place),
        bytes: regions.buffer_bytes(buffer),
        birth,
        death: deaths[buffer.0 as usize].max(birth),
        overwrites: Vec::new(),
    };
    let mut lifetimes = Vec::new();
    for (buffer, param) in regions.params() {
        if param.role == Role::Input {
            lifetimes.push(lifetime(buffer, 0, "input", &param.name));
        }
    }
    let updates = updates(regions);
    let in_place = |buffer: Buffer| {
        let mut updates = updates.iter();
        updates.any(|update| update.in_place && update.result == buffer)
    };
    let mut begun = BTreeSet::new();
    for (id, region) in regions.iter() {
        let kind = region.anchor.class().name();
        for output in region.outputs.iter().filter(|o| !in_place(o.buffer)) {
            // What is joined lives from its first part on, and parts lie in it.
            if let Some((whole, _)) = regions.part_of(output.buffer) {
                if begun.insert(whole) {
                    lifetimes.push(lifetime(whole, id.0 + 1, "joined", &region.origin));
                }
                continue;
            }
            let mut stored = lifetime(output.buffer, id.0 + 1, kind, &region.origin);
            stored.overwrites = overwritable(regions, region, output);
            lifetimes.push(stored);
            if let Some(moments) = output.moments {
                lifetimes.push(lifetime(moments, id.0 + 1, "moments", &region.origin));
            }
        }
    }
    lifetimes
}

/// The lifetimes of the weights, all of which outlive a run, in the types that the function
/// declares.
pub fn weights(regions: &Regions) -> Vec<Lifetime> {
    lasting(regions, Role::Weight)
}

/// The lifetimes of the states, all of which outlive a run.
pub fn states(regions: &Regions) -> Vec<Lifetime> {
    lasting(regions, Role::State)
}

fn lasting(regions: &Regions, wanted: Role) -> Vec<Lifetime> {
    let params = regions.params().filter(|(_, own)| own.role == wanted);
    let lifetime = |(buffer, param): (Buffer, &Param)| Lifetime {
        buffer,
        origin: origin(&wanted.to_string(), &param.name),
        bytes: regions.buffer_bytes(buffer),
        birth: 0,
        death: END,
        overwrites: Vec::new(),
    };
    params.map(lifetime).collect()
}

fn origin(kind: &str, place: &str) -> String {
    match place {
        "" => kind.to_owned(),
        place => format!("{kind} {place}"),
    }
}
