//! What GPUs ask of the buffers of regions.
//!
//! Takes a buffer, tells what kind it is and where it begins in its window. It places nothing.

use compiler::region::{Buffer, BufferData, Regions};

use super::commands::{ALIGNMENT, StoredAs};

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
