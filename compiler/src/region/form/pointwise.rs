//! Pointwise regions take in pointwise producers that nobody else reads.
//!
//! Takes a pointwise region, gives it with one producer's nodes computed in place, at the
//! indices where they were read. It never computes an element twice.

use super::nodes::{Read, append, end_at};
use super::state::{State, Verdict};
use crate::region::access::Step;
use crate::region::{Anchor, Buffer};

/// See the card.
pub(super) fn apply(state: &mut State, slot: usize) -> Verdict {
    let Some((region, _)) = state.pointwise(slot) else {
        return Verdict::Elsewhere;
    };
    let mut verdict = Verdict::Elsewhere;
    for buffer in region.reads() {
        match state.producer(buffer) {
            Some((_, producer)) if producer.anchor == Anchor::Pointwise => {}
            Some(_) | None => continue,
        }
        match refuse(state, slot, buffer) {
            None => {
                verdict = take_in(state, slot, buffer);
                if verdict == Verdict::Fused {
                    return verdict;
                }
            }
            Some(reason) => verdict = Verdict::Refused(reason),
        }
    }
    verdict
}

fn refuse(state: &State, slot: usize, buffer: Buffer) -> Option<String> {
    let (region, output) = state.pointwise(slot)?;
    if let Some(reason) = state.also_read(buffer, slot) {
        return Some(reason);
    }
    if let Err(reason) = state.only_access(region, buffer) {
        return Some(reason);
    }
    let (stored, computed) = (state.extents(buffer).elements(), elements(&output.domain));
    (stored < computed)
        .then(|| format!("{stored} elements of {buffer} would be computed {computed} times"))
}

/// Computes `buffer`, which the region of `slot` reads, in place.
fn take_in(state: &mut State, slot: usize, buffer: Buffer) -> Verdict {
    let (Some((region, output)), Some((from, producer))) =
        (state.pointwise(slot), state.producer(buffer))
    else {
        return Verdict::Elsewhere;
    };
    let Ok((access, numbers)) = state.only_access(region, buffer) else {
        return Verdict::Elsewhere;
    };
    let mut fused = region.clone();
    fused.operands.clear();
    let index = access
        .single()
        .map_or(Vec::new(), |piece| piece.index.clone());
    let step = Step::whole(&output.domain, index);
    let mut nodes = Vec::new();
    append(
        &mut fused,
        &mut nodes,
        &producer.outputs[0].nodes,
        |operand| Read::Operand(producer.operands[operand].through(&step)),
    );
    let last = nodes.len() - 1;
    let places = append(
        &mut fused,
        &mut nodes,
        &output.nodes,
        |operand| match numbers.contains(&operand) {
            true => Read::Node(last),
            false => Read::Operand(region.operands[operand].clone()),
        },
    );
    end_at(&mut nodes, &places);
    fused.outputs[0].nodes = nodes;
    if fused.origin.is_empty() {
        fused.origin.clone_from(&producer.origin);
    }
    state.replace(slot, fused, &[from])
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}
