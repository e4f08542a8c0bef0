//! Contractions store the moments that the next group normalisation needs.
//!
//! Takes the statistics of a group normalisation, gives them as a merge of moments per image and
//! channel, which the regions that store the normalised tensor reduce on the side. Moments of
//! channels join across the borders of a concatenation and across tiles, whatever the groups.

use super::state::{State, Verdict};
use crate::ops::{Class, Op};
use crate::region::access::Step;
use crate::region::{Access, Anchor, Buffer, Index, Output, Piece, Region};
use crate::value::extents::Extents;

/// See the card.
pub(super) fn apply(state: &mut State, slot: usize) -> Verdict {
    let Some(region) = state.region(slot) else {
        return Verdict::Elsewhere;
    };
    let Anchor::Statistics { groups, epsilon } = region.anchor else {
        return Verdict::Elsewhere;
    };
    let x = region.operands[0].clone();
    let sources = match sources(state, &x) {
        Ok(sources) => sources,
        Err(reason) => return Verdict::Refused(reason),
    };
    let dtype = x.dtype.accumulator();
    let shape = [x.shape[0], x.shape[1], 2];
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (from, output) in sources {
        let (moments, channels) = moments(state, from, output);
        let whole = Access::whole(moments, dtype, &[shape[0], channels, 2]);
        let part = whole.through(&Step::part(1, start, channels, &shape));
        pieces.extend(part.pieces);
        start += channels as i64;
    }
    let Some(mut merge) = state.region(slot).cloned() else {
        return Verdict::Elsewhere;
    };
    merge.anchor = Anchor::MergeMoments {
        groups,
        epsilon,
        count: x.shape[2..].iter().product(),
    };
    merge.operands = vec![Access {
        dtype,
        shape: shape.to_vec(),
        pieces,
        fill: None,
    }];
    state.put(slot, merge, &[]);
    Verdict::Fused
}

/// The slots and numbers of the outputs that store `x`, in the order of its channels.
fn sources(state: &State, x: &Access) -> Result<Vec<(usize, usize)>, String> {
    let mut start = 0;
    let mut sources = Vec::new();
    for piece in &x.pieces {
        let source = source(state, x, piece, start)?;
        start += state.extents(piece.buffer).shape[1];
        sources.push(source);
    }
    match start == x.shape[1] {
        true => Ok(sources),
        false => Err("it reads a border".to_owned()),
    }
}

fn source(
    state: &State,
    x: &Access,
    piece: &Piece,
    start: usize,
) -> Result<(usize, usize), String> {
    let buffer = piece.buffer;
    let shape = &state.extents(buffer).shape;
    if shape.len() != x.shape.len() {
        return Err(format!("{buffer} is read under another shape"));
    }
    let whole = Access::whole(buffer, x.dtype, shape);
    let part = whole.through(&Step::part(1, start as i64, shape[1], &x.shape));
    if part.pieces != [piece.clone()] {
        return Err(format!("{buffer} is read in part or in another order"));
    }
    let Some((slot, region)) = state.producer(buffer) else {
        return Err(format!("{buffer} is given"));
    };
    let class = region.anchor.class();
    let op = region.anchor.op();
    let gradient = matches!(op, Some(Op::ConvTranspose(_) | Op::ConvWeightGradient(_)));
    if gradient || (class != Class::Conv && class != Class::Gemm) {
        return Err(format!(
            "{buffer} comes from a region of class {}",
            class.name()
        ));
    }
    let found = region
        .outputs
        .iter()
        .position(|output| output.buffer == buffer);
    let found = found.filter(|&output| columns_are_channels(region, &region.outputs[output]));
    match found {
        Some(output) => Ok((slot, output)),
        None => Err(format!("the columns of {buffer} are not its channels")),
    }
}

/// Whether a column of the contraction stays within one channel, the second axis of what is
/// stored.
fn columns_are_channels(region: &Region, output: &Output) -> bool {
    let column = match region.anchor.class() {
        Class::Conv => 1,
        Class::Gemm
        | Class::Pointwise
        | Class::Movement
        | Class::Attention
        | Class::Row
        | Class::Gather
        | Class::Plain => output.domain.len() - 1,
    };
    output.store.get(1).and_then(Index::as_axis) == Some(column)
}

/// The moments of an output, stored from now on, and its channels.
fn moments(state: &mut State, slot: usize, output: usize) -> (Buffer, usize) {
    let Some(mut region) = state.region(slot).cloned() else {
        unreachable!("a source is in its slot");
    };
    let stored = &region.outputs[output];
    let Extents { dtype, shape } = state.extents(stored.buffer).clone();
    if let Some(moments) = stored.moments {
        return (moments, shape[1]);
    }
    let moments = state.add_buffer(Extents {
        dtype: dtype.accumulator(),
        shape: vec![shape[0], shape[1], 2],
    });
    region.outputs[output].moments = Some(moments);
    state.put(slot, region, &[]);
    (moments, shape[1])
}
