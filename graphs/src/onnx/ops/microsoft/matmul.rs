//! Products whose operands have another order of axes.
//!
//! Takes operands and their order, returns transpositions and the IR's product or convolution.

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::super::linear::{product, scaled};
use super::super::window::convolve;

/// `alpha · A′ · B′`.
pub(crate) fn fused_matmul(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let a = turned(context, node, node.input(0, "A")?, "transBatchA", "transA")?;
    let b = turned(context, node, node.input(1, "B")?, "transBatchB", "transB")?;
    let result = product(context, a, b)?;
    Ok(vec![scaled(context, result, node.float_or("alpha", 1.0)?)?])
}

/// With `batch` the first axis becomes the last but one, with `matrix` the last two change places.
fn turned(
    context: &mut Context,
    node: &Node<'_>,
    wire: Wire,
    batch: &str,
    matrix: &str,
) -> Result<Wire> {
    let rank = context.rank(wire);
    let mut permutation: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        if node.flag(batch, false)? {
            permutation[..rank - 1].rotate_left(1);
        }
        if node.flag(matrix, false)? {
            permutation.swap(rank - 2, rank - 1);
        }
    }
    context.transpose(wire, permutation)
}

/// `Conv` of `x` `[batch, spatial…, channels]` with `w` `[features, kernel…, depth]`.
pub(crate) fn nhwc_conv(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = channels_first(context, node.input(0, "X")?)?;
    let w = channels_first(context, node.input(1, "W")?)?;
    let result = convolve(context, node, x, w, node.optional(2))?;
    Ok(vec![channels_last(context, result)?])
}

/// `[batch, …, channels]` as `[batch, channels, …]`.
pub(super) fn channels_first(context: &mut Context, x: Wire) -> Result<Wire> {
    let rank = context.rank(x);
    if rank < 3 {
        return Err(Problem::Operand {
            name: "X",
            found: context.ty(x).to_string(),
            wanted: "batch, spatial axes and channels".to_owned(),
        });
    }
    let order = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    context.transpose(x, order)
}

/// `[batch, channels, …]` as `[batch, …, channels]`.
pub(super) fn channels_last(context: &mut Context, x: Wire) -> Result<Wire> {
    let order = [0]
        .into_iter()
        .chain(2..context.rank(x))
        .chain([1])
        .collect();
    context.transpose(x, order)
}
