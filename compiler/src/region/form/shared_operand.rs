//! Linear layers of one operand become one contraction with several results.
//!
//! Takes a linear layer, gives it together with all later ones that read the same: queries, keys
//! and values, the projections of one time embedding or one text. Their weights are read one
//! below the other, so a program may store them so when it loads.

use super::nodes::append_operand;
use super::state::{State, Verdict};
use crate::ops::Op;
use crate::region::access::Step;
use crate::region::{Access, Index, Node, Output, Region};

/// See the card.
pub(super) fn apply(state: &mut State, slot: usize) -> Verdict {
    let Some(region) = state.region(slot).filter(|region| is_linear(region)) else {
        return Verdict::Elsewhere;
    };
    let sharing = |other: &usize| {
        let other = state.region(*other);
        other.is_some_and(|other| is_linear(other) && other.operands[0] == region.operands[0])
    };
    let others: Vec<usize> = (slot + 1..state.slots()).filter(sharing).collect();
    if others.is_empty() {
        return Verdict::Elsewhere;
    }
    if let Some(reason) = refuse(state, region) {
        return Verdict::Refused(reason);
    }
    let refusal = |other: &usize| refuse(state, state.region(*other)?);
    let (refused, taken): (Vec<usize>, Vec<usize>) = others
        .into_iter()
        .partition(|other| refusal(other).is_some());
    let Some(_) = taken.first() else {
        let reason = refused.first().and_then(refusal);
        return reason.map_or(Verdict::Elsewhere, Verdict::Refused);
    };
    let slots = [slot].into_iter().chain(taken.iter().copied());
    let regions: Vec<&Region> = slots.filter_map(|slot| state.region(slot)).collect();
    let joined = join(&regions);
    state.replace(slot, joined, &taken)
}

fn is_linear(region: &Region) -> bool {
    matches!(region.anchor.op(), Some(Op::Linear(_)))
}

/// Why a layer cannot be computed where the first of its kind is.
fn refuse(state: &State, region: &Region) -> Option<String> {
    let pieces = region.operands[1..]
        .iter()
        .flat_map(|access| &access.pieces);
    let computed = pieces
        .map(|piece| piece.buffer)
        .find(|&b| state.is_computed(b));
    if let Some(buffer) = computed {
        return Some(format!("{buffer}, which it also reads, is computed"));
    }
    let stretched = |output: &Output| {
        output.nodes.iter().any(|node| match node {
            Node::Anchor(index) => *index != Index::identity(&output.domain),
            Node::Read(_) | Node::Scalar(_) | Node::Apply(..) => false,
        })
    };
    // Of layers that were joined already, every output has its own columns.
    let paired = region.outputs.len() == 1 && stretched(&region.outputs[0]);
    if paired {
        return Some("its columns are paired".to_owned());
    }
    region.operands[1]
        .fill
        .is_some()
        .then(|| "its weight has a border".to_owned())
}

fn join(regions: &[&Region]) -> Region {
    let axis = regions[0].operands[0].shape.len() - 1;
    let features = |region: &Region| region.operands[1].shape[0];
    let mut shape = regions[0].operands[1].shape.clone();
    shape[0] = regions.iter().map(|region| features(region)).sum();
    let mut weights = Access {
        shape: shape.clone(),
        pieces: Vec::new(),
        ..regions[0].operands[1].clone()
    };
    let mut start = 0;
    for region in regions {
        let step = Step::part(0, start, features(region), &shape);
        weights
            .pieces
            .extend(region.operands[1].through(&step).pieces);
        start += features(region) as i64;
    }
    let mut joined = regions[0].clone();
    joined.operands.truncate(1);
    joined.operands.push(weights);
    joined.outputs.clear();
    let mut start = 0;
    for region in regions {
        for output in &region.outputs {
            let mut output = output.clone();
            for node in &mut output.nodes {
                match node {
                    Node::Anchor(index) => index[axis] = index[axis].clone().plus(start),
                    Node::Read(operand) => {
                        let access = region.operands[*operand].clone();
                        *operand = append_operand(&mut joined, access);
                    }
                    Node::Scalar(_) | Node::Apply(..) => {}
                }
            }
            joined.outputs.push(output);
        }
        start += features(region) as i64;
    }
    joined
}
