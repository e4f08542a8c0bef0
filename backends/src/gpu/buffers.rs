//! What GPUs ask of the buffers of regions.
//!
//! Takes a buffer, tells what kind it is and where it begins in its window. It places nothing.

use compiler::graph::Role;
use compiler::region::{Buffer, BufferData, Content, Regions};

use super::commands::{ALIGNMENT, StoredAs};

/// Whether a buffer is given when a program is loaded, and never changes.
pub(crate) fn is_fixed(data: &BufferData) -> bool {
    match &data.content {
        Content::Constant(_) => true,
        Content::Param(param) => param.role == Role::Weight,
        Content::Computed => false,
    }
}

/// Whether a buffer keeps what it holds from run to run until a result takes its place.
pub(crate) fn is_state(data: &BufferData) -> bool {
    match &data.content {
        Content::Param(param) => param.role == Role::State,
        Content::Constant(_) | Content::Computed => false,
    }
}

/// A buffer's number.
pub(crate) fn number(buffer: Buffer) -> usize {
    buffer.0 as usize
}

/// Elements between the last aligned byte before a buffer and its first element: parts of joined
/// buffers begin anywhere in them, other buffers at aligned bytes.
pub(crate) fn head(regions: &Regions, buffer: Buffer) -> usize {
    let aligned = (ALIGNMENT / 4) as usize;
    regions
        .part_of(buffer)
        .map_or(0, |(_, start)| start % aligned)
}

/// Bytes of a window, in whole elements of any kernel.
pub(super) fn window_bytes(data: &BufferData, form: StoredAs) -> u64 {
    let bytes = form.bytes(data.extents.elements()).unwrap_or(u64::MAX);
    bytes
        .checked_next_multiple_of(16)
        .unwrap_or(u64::MAX)
        .max(16)
}
