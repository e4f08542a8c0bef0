//! A contraction computes both halves of its columns side by side.
//!
//! Takes a pointwise region that reads the first and the second half of a linear layer's
//! columns (GEGLU), gives the layer's region with half as many columns to store: a program
//! keeps column `j` and column `j + half` together.

use super::nodes::{Read, append};
use super::state::{State, Verdict};
use crate::ops::Class;
use crate::region::access::Step;
use crate::region::{Access, Buffer, Index, Node, Region};

/// See the card.
pub(super) fn apply(state: &mut State, slot: usize) -> Verdict {
    let Some((region, output)) = state.pointwise(slot) else {
        return Verdict::Elsewhere;
    };
    let found = region.reads().into_iter().find_map(|buffer| {
        let halves = halves(state, region, &output.domain, buffer)?;
        Some((buffer, halves))
    });
    let Some((buffer, halves)) = found else {
        return Verdict::Elsewhere;
    };
    if let Some(reason) = refuse(state, slot, buffer) {
        return Verdict::Refused(reason);
    }
    take_in(state, slot, buffer, halves)
}

/// For each operand, which half of the buffer it reads, if both halves are read and nothing
/// else of the buffer.
fn halves(
    state: &State,
    region: &Region,
    domain: &[usize],
    buffer: Buffer,
) -> Option<Vec<Option<usize>>> {
    let axis = domain.len().checked_sub(1)?;
    let extents = state.extents(buffer);
    let whole = Access::whole(buffer, extents.dtype, &extents.shape);
    let paired = extents.shape.len() == domain.len() && extents.shape[axis] == 2 * domain[axis];
    if !paired {
        return None;
    }
    let half = |start: usize| whole.through(&Step::slice(axis, start as i64, 1, domain));
    let wanted = [half(0), half(domain[axis])];
    let mut found = Vec::with_capacity(region.operands.len());
    for access in &region.operands {
        let reads = access.pieces.iter().any(|piece| piece.buffer == buffer);
        let half = wanted.iter().position(|half| half == access);
        match (reads, half) {
            (true, None) => return None,
            (_, half) => found.push(half),
        }
    }
    let both = [0, 1].iter().all(|half| found.contains(&Some(*half)));
    both.then_some(found)
}

fn refuse(state: &State, slot: usize, buffer: Buffer) -> Option<String> {
    let Some((_, producer)) = state.producer(buffer) else {
        return Some(format!("{buffer} is given"));
    };
    let class = producer.anchor.class();
    if class != Class::Gemm {
        return Some(format!(
            "{buffer} comes from a region of class {}",
            class.name()
        ));
    }
    let output = &producer.outputs[0];
    if producer.outputs.len() > 1 || output.store != Index::identity(&output.domain) {
        return Some(format!("{buffer} is not stored as it is computed"));
    }
    state.also_read(buffer, slot)
}

fn take_in(state: &mut State, slot: usize, buffer: Buffer, halves: Vec<Option<usize>>) -> Verdict {
    let (Some((region, output)), Some((from, producer))) =
        (state.pointwise(slot), state.producer(buffer))
    else {
        return Verdict::Elsewhere;
    };
    let axis = output.domain.len() - 1;
    let mut fused = producer.clone();
    fused.operands.truncate(fused.anchor_operands());
    let mut nodes = Vec::new();
    let ends = [0, output.domain[axis]].map(|start| {
        let step = Step::slice(axis, start as i64, 1, &output.domain);
        // Epilogues read the anchor at their own index until something pairs columns.
        let shifted = producer.outputs[0].nodes.iter().map(|node| match node {
            Node::Anchor(_) => Node::Anchor(step.index.clone()),
            Node::Read(_) | Node::Scalar(_) | Node::Apply(..) => node.clone(),
        });
        append(
            &mut fused,
            &mut nodes,
            &shifted.collect::<Vec<_>>(),
            |operand| Read::Operand(producer.operands[operand].through(&step)),
        );
        nodes.len() - 1
    });
    append(
        &mut fused,
        &mut nodes,
        &output.nodes,
        |operand| match halves[operand] {
            Some(half) => Read::Node(ends[half]),
            None => Read::Operand(region.operands[operand].clone()),
        },
    );
    fused.outputs[0] = output.clone();
    fused.outputs[0].nodes = nodes;
    state.replace(slot, fused, &[from])
}
