//! Anchors take in what is pointwise on their results.
//!
//! Takes a pointwise region, gives it as the epilogue of the region that stores one of its
//! operands for it alone: the sum with a residual, an activation, a scale, a cast, a product
//! with a gate. Reshapes and transposes between the two become the walk by which the anchor's
//! region stores. Of several such operands the one with most arithmetic is taken, then the last.

use super::nodes::{Read, append, end_at};
use super::state::{State, Verdict, contracts};
use crate::region::access::{Step, inverse};
use crate::region::{Anchor, Buffer, Index, Scope};

/// See the card.
pub(super) fn apply(state: &mut State, slot: usize) -> Verdict {
    let Some((region, _)) = state.pointwise(slot) else {
        return Verdict::Elsewhere;
    };
    let mut candidates: Vec<(bool, usize, Buffer)> = Vec::new();
    for buffer in region.reads() {
        match state.producer(buffer) {
            Some((from, producer)) if producer.anchor != Anchor::Pointwise => {
                candidates.push((contracts(producer.anchor.class()), from, buffer));
            }
            Some(_) | None => {}
        }
    }
    candidates.sort_unstable();
    let mut verdict = Verdict::Elsewhere;
    for (_, _, buffer) in candidates.into_iter().rev() {
        let answer = match walk(state, slot, buffer) {
            Ok(walk) => match take_in(state, slot, buffer, &walk) {
                Verdict::Fused => return Verdict::Fused,
                other => other,
            },
            Err(reason) => Verdict::Refused(reason),
        };
        // What is said of the best candidate counts.
        if verdict == Verdict::Elsewhere {
            verdict = answer;
        }
    }
    verdict
}

/// From the producer's domain to that of the pointwise region in `slot`, or why there is no way.
fn walk(state: &State, slot: usize, buffer: Buffer) -> Result<Vec<Index>, String> {
    let (Some((region, output)), Some((_, producer))) =
        (state.pointwise(slot), state.producer(buffer))
    else {
        return Err(format!("{buffer} is not computed"));
    };
    if let Some(reason) = state.also_read(buffer, slot) {
        return Err(reason);
    }
    if producer.outputs.len() > 1 || producer.outputs[0].moments.is_some() {
        return Err(format!("the region that stores {buffer} stores more"));
    }
    if let Anchor::Statistics { .. } | Anchor::MergeMoments { .. } = producer.anchor {
        return Err(format!("{buffer} holds statistics"));
    }
    let (access, _) = state.only_access(region, buffer)?;
    let index = access.single().map_or(&[][..], |piece| &piece.index);
    let back = inverse(index, &output.domain, &state.extents(buffer).shape);
    let Some(back) = back else {
        return Err(format!("{buffer} is not read element by element"));
    };
    let from = &producer.outputs[0];
    let scope = Scope::of(&from.domain);
    let walk = back
        .iter()
        .map(|index| index.substitute(&from.store, scope));
    Ok(walk.collect())
}

fn take_in(state: &mut State, slot: usize, buffer: Buffer, walk: &[Index]) -> Verdict {
    let (Some((region, output)), Some((from, producer))) =
        (state.pointwise(slot), state.producer(buffer))
    else {
        return Verdict::Elsewhere;
    };
    let Ok((_, numbers)) = state.only_access(region, buffer) else {
        return Verdict::Elsewhere;
    };
    let mut fused = producer.clone();
    let mut nodes = std::mem::take(&mut fused.outputs[0].nodes);
    let step = Step::whole(&fused.outputs[0].domain, walk.to_vec());
    let last = nodes.len() - 1;
    let places = append(
        &mut fused,
        &mut nodes,
        &output.nodes,
        |operand| match numbers.contains(&operand) {
            true => Read::Node(last),
            false => Read::Operand(region.operands[operand].through(&step)),
        },
    );
    end_at(&mut nodes, &places);
    let stored = &mut fused.outputs[0];
    stored.nodes = nodes;
    stored.buffer = output.buffer;
    stored.store = walk.to_vec();
    state.replace(slot, fused, &[from])
}
