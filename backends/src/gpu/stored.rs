//! How buffers lie in the memory of a device: in words of 32 bits, numbers of 16 bits in pairs.
//!
//! Takes the programs of all regions, gives each buffer its form. Two invocations must never share
//! a word that one of them stores: a buffer of 16-bit numbers is in pairs only where all that
//! stores to it stores four neighbours at a time; elsewhere its numbers take 32 bits each. It moves
//! no data.

use compiler::plan::updates;
use compiler::region::{Anchor, BufferData, Content, Regions};
use compiler::tile::Choice;

use super::buffers::number;
use super::commands::StoredAs;
use super::expand::quads;

/// What is read more than once, the stream of residuals above all, keeps 32 bits where it has at
/// most so many bytes: there roundings add up from block to block, and in networks on latents it is
/// little beside the weights. (Pictures are not: there 16 bits halve what a decoder needs.)
const STREAM_BYTES_MAX: u64 = 16 << 20;

/// The form of every buffer, by number.
pub(crate) fn forms(regions: &Regions, choices: &[Choice]) -> Vec<StoredAs> {
    // Buffers of f64 are the host's; what they are called here is not looked at.
    let own = |data: &BufferData| StoredAs::of(data.extents.dtype).unwrap_or(StoredAs::F32);
    let mut forms: Vec<StoredAs> = regions.buffers.iter().map(own).collect();
    let mut readers = vec![0usize; regions.buffers.len()];
    for region in &regions.regions {
        // Means and variances of many numbers do not show how each is rounded.
        if matches!(region.anchor, Anchor::Statistics { .. }) {
            continue;
        }
        for buffer in region.reads() {
            readers[number(buffer)] += 1;
        }
    }
    let data = regions.buffers.iter().zip(readers);
    for (form, (data, readers)) in forms.iter_mut().zip(data) {
        let bytes = StoredAs::F32.bytes(data.extents.elements());
        let is_small = bytes.is_some_and(|bytes| bytes <= STREAM_BYTES_MAX);
        let is_stream = data.content == Content::Computed && readers > 1 && is_small;
        if is_stream && matches!(form, StoredAs::F16 | StoredAs::Bf16) {
            *form = StoredAs::F32;
        }
    }
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
    unite(regions, &mut forms);
    forms
}

/// Brings buffers that lie in the same bytes, or are copied as they lie, into one form: parts of
/// joined buffers take 32 bits for each number, for they begin anywhere.
fn unite(regions: &Regions, forms: &mut [StoredAs]) {
    let wide = |form: &mut StoredAs| match form {
        StoredAs::F16 | StoredAs::Bf16 => *form = StoredAs::F32,
        StoredAs::F32 | StoredAs::I32 => {}
    };
    for joined in &regions.joined {
        for buffer in joined.parts.iter().chain([&joined.whole]) {
            wide(&mut forms[number(*buffer)]);
        }
    }
    let updates = updates(regions);
    // A result may replace several states, and a state another one.
    while let Some(update) = updates
        .iter()
        .find(|update| forms[number(update.state)] != forms[number(update.result)])
    {
        wide(&mut forms[number(update.state)]);
        wide(&mut forms[number(update.result)]);
    }
}
