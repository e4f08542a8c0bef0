//! Which buffers an output may be stored over while its region runs.
//!
//! Takes a region and one of its outputs, returns whether each element of another buffer is read
//! at most just where and when the result takes its place.

use crate::graph::Role;
use crate::region::{Access, Buffer, BufferData, Content, Index, Node, Output, Region, Regions};

/// The buffers whose memory an output may take if they die with its region.
pub(super) fn overwritable(regions: &Regions, region: &Region, output: &Output) -> Vec<Buffer> {
    let fits = |buffer: &Buffer| {
        let data = regions.buffer(*buffer);
        let is_given = data.content == Content::Computed || data.role() == Some(Role::Input);
        is_given && takes_place(regions, region, output, *buffer)
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
