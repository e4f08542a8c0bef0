//! How buffers lie in the memory of a device: in words of 32 bits, numbers of 16 bits in pairs.
//!
//! Takes the programs of all regions, gives each buffer its form. Two invocations must never share
//! a word that one of them stores: a buffer of 16-bit numbers is in pairs only where all that
//! stores to it stores four neighbours at a time; elsewhere its numbers take 32 bits each. It moves
//! no data.

use compiler::region::{Buffer, BufferData, Content, Regions};
use compiler::tile::Choice;

use super::commands::StoredAs;
use super::expand::quads;

/// The form of every buffer, by number.
pub(crate) fn forms(regions: &Regions, choices: &[Choice]) -> Vec<StoredAs> {
    // Buffers of f64 are the host's; what they are called here is not looked at.
    let own = |data: &BufferData| StoredAs::of(data.extents.dtype).unwrap_or(StoredAs::F32);
    let mut forms: Vec<StoredAs> = regions.buffers.iter().map(own).collect();
    for (region, choice) in regions.regions.iter().zip(choices) {
        let Choice::Blocks(program) = choice else {
            continue;
        };
        for (output, views) in region.outputs.iter().zip(&program.outputs) {
            let in_quads = quads::is_in_quads(region, output, views, regions);
            let form = &mut forms[output.buffer.0 as usize];
            if !in_quads && matches!(form, StoredAs::F16 | StoredAs::Bf16) {
                *form = StoredAs::F32;
            }
        }
    }
    forms
}

/// Whether a buffer is given when a program is loaded, and never changes.
pub(crate) fn is_fixed(data: &BufferData) -> bool {
    match &data.content {
        Content::Constant(_) => true,
        Content::Param(param) => param.role == compiler::graph::Role::Weight,
        Content::Computed => false,
    }
}

/// A buffer's number.
pub(crate) fn number(buffer: Buffer) -> usize {
    buffer.0 as usize
}
