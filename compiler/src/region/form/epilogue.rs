//! Anchors take in what is pointwise on their results.
//!
//! Takes a pointwise region, gives it as the epilogue of the region that stores one of its
//! operands for it alone: the sum with a residual, an activation, a scale, a cast, a product
//! with a gate. Reshapes and transposes between the two become the walk by which the anchor's
//! region stores. Of several such operands the one with most arithmetic is taken, then the last.

use super::rule::Verdict;
use super::state::{State, contracts};
use crate::region::access::{Step, inverse};
use crate::region::{Access, Anchor, Buffer, Index, Node, Region, Scope};

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
    let kept = |operand: usize| {
        let access = &region.operands[operand];
        (!numbers.contains(&operand)).then(|| access.through(&step))
    };
    append(&mut fused, &mut nodes, &output.nodes, kept);
    let stored = &mut fused.outputs[0];
    stored.nodes = nodes;
    stored.buffer = output.buffer;
    stored.store = walk.to_vec();
    if let Some(reason) = state.too_intricate(&fused) {
        return Verdict::Refused(reason);
    }
    state.put(slot, fused, &[from]);
    Verdict::Fused
}

/// Appends the nodes of a pointwise region to those whose last one it reads: `kept` gives the
/// accesses that it still needs, and `None` for the one that the last node is.
pub(super) fn append(
    region: &mut Region,
    nodes: &mut Vec<Node>,
    more: &[Node],
    kept: impl Fn(usize) -> Option<Access>,
) {
    let last = nodes.len() - 1;
    let mut places: Vec<usize> = Vec::with_capacity(more.len());
    for node in more {
        let node = match node {
            Node::Read(operand) => match kept(*operand) {
                Some(access) => Node::Read(append_operand(region, access)),
                None => {
                    places.push(last);
                    continue;
                }
            },
            Node::Apply(op, operands) => {
                let operands = operands.iter().map(|&operand| places[operand]);
                Node::Apply(op.clone(), operands.collect())
            }
            Node::Anchor(_) | Node::Scalar(_) => node.clone(),
        };
        nodes.push(node);
        places.push(nodes.len() - 1);
    }
    // A copy of nothing but the last node is that node.
    if places.last() != Some(&(nodes.len() - 1)) {
        nodes.truncate(places.last().map_or(0, |place| place + 1));
    }
}

/// The number of an operand of the epilogue, added unless it is there.
pub(super) fn append_operand(region: &mut Region, access: Access) -> usize {
    let first = region.anchor_operands();
    let found = region.operands[first..]
        .iter()
        .position(|other| *other == access);
    match found {
        Some(position) => first + position,
        None => {
            region.operands.push(access);
            region.operands.len() - 1
        }
    }
}
