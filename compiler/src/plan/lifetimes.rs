//! When the buffers of regions live, and which may take the memory of others.
//!
//! Takes regions, gives a lifetime for each buffer that a run needs memory for, or for each
//! weight or state. Weights, states and constants outlive a run and are not among the former.

use std::collections::BTreeSet;

use crate::graph::Role;
use crate::region::{Access, Buffer, BufferData, Content, Index, Node, Output, Region, Regions};

use super::states::updates;
use super::{END, Lifetime};

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
    for (buffer, name, role) in params(regions) {
        if role == Role::Input {
            lifetimes.push(lifetime(buffer, 0, "input", name));
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
    let params = params(regions).filter(|(_, _, role)| *role == wanted);
    let lifetime = |(buffer, name, role): (Buffer, &str, Role)| Lifetime {
        buffer,
        origin: origin(&role.to_string(), name),
        bytes: regions.buffer_bytes(buffer),
        birth: 0,
        death: END,
        overwrites: Vec::new(),
    };
    params.map(lifetime).collect()
}

fn params(regions: &Regions) -> impl Iterator<Item = (Buffer, &str, Role)> {
    let buffers = regions.buffers.iter().enumerate();
    buffers.filter_map(|(number, data)| match &data.content {
        Content::Param(param) => Some((Buffer(number as u32), param.name.as_str(), param.role)),
        Content::Constant(_) | Content::Computed => None,
    })
}

/// The buffers whose memory an output may take if they die with its region.
pub(super) fn overwritable(regions: &Regions, region: &Region, output: &Output) -> Vec<Buffer> {
    let fits = |buffer: &Buffer| {
        let given = match &regions.buffer(*buffer).content {
            Content::Computed => true,
            Content::Param(param) => param.role == Role::Input,
            Content::Constant(_) => false,
        };
        given && takes_place(regions, region, output, *buffer)
    };
    region.reads().into_iter().filter(fits).collect()
}

/// Whether an output may be stored where `buffer` lies while its region runs: element for element
/// they lie at the same bytes, and nothing else in the region reads them.
pub(super) fn takes_place(
    regions: &Regions,
    region: &Region,
    output: &Output,
    buffer: Buffer,
) -> bool {
    let wanted = flat(&output.store, regions.buffer(output.buffer));
    let bytes = regions.buffer(output.buffer).extents.dtype.bytes();
    let data = regions.buffer(buffer);
    let same = |access: &Access| {
        let piece = access.single();
        access.shape == output.domain
            && piece.is_some_and(|piece| flat(&piece.index, data) == wanted)
    };
    let mut accesses = region.operands.iter().enumerate();
    data.extents.dtype.bytes() == bytes
        && regions.buffer_bytes(buffer) == regions.buffer_bytes(output.buffer)
        && accesses.all(|(number, access)| {
            let reads = access.pieces.iter().any(|piece| piece.buffer == buffer);
            !reads || (only_here(region, output, number) && same(access))
        })
}

/// Whether an operand is read by the epilogue of one output alone.
fn only_here(region: &Region, output: &Output, operand: usize) -> bool {
    let others = region.outputs.iter().filter(|other| *other != output);
    let elsewhere = others.flat_map(|other| &other.nodes);
    let mut elsewhere = elsewhere.filter(|node| **node == Node::Read(operand));
    operand >= region.anchor_operands() && elsewhere.next().is_none()
}

/// The element in memory that a walk reaches.
fn flat(walk: &[Index], data: &BufferData) -> Index {
    let axes = walk.iter().zip(data.strides());
    axes.fold(Index::constant(0), |sum, (index, stride)| {
        sum.add(&index.clone().times(stride as i64))
    })
}

fn origin(kind: &str, place: &str) -> String {
    match place {
        "" => kind.to_owned(),
        place => format!("{kind} {place}"),
    }
}
