//! Norms with what onnxruntime fuses around them.
//!
//! Takes images whose channels are last, or tokens and what is added to them, returns the IR's
//! norms.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

use super::super::norm::statistics;
use super::matmul::{channels_first, channels_last};

/// Group norm of `[batch, …, channels]`, or of channels first, and SiLU with `activation` = 1.
pub(crate) fn group_norm(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    Ok(vec![group_norm_of(context, node, x)?])
}

/// Group norm of `X + skip + bias`; the sum is the second result.
pub(crate) fn skip_group_norm(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, mut skip) = (node.input(0, "X")?, node.input(3, "skip")?);
    if let [batch, channels] = context.shape(skip).as_slice() {
        let between = vec![Dim::from(1); context.rank(x).saturating_sub(2)];
        let shape = [vec![batch.clone()], between, vec![channels.clone()]].concat();
        skip = context.reshape(skip, shape)?;
    }
    let mut sum = context.push(ops::Add, &[x, skip])?;
    if let Some(bias) = node.optional(4) {
        sum = context.push(ops::Add, &[sum, bias])?;
    }
    Ok(vec![group_norm_of(context, node, sum)?, sum])
}

fn group_norm_of(context: &mut Context, node: &Node<'_>, x: Wire) -> Result<Wire> {
    let last = node.flag("channels_last", true)?;
    let groups = node.int_or("groups", 0)?;
    let groups = usize::try_from(groups)
        .map_err(|_| node.refuse("groups", groups, "a divisor of the channels"))?;
    let epsilon = node.float_or("epsilon", 1e-5)?;
    let silu = node.flag("activation", false)?;
    // Scale and bias are f32 beside images of f16.
    let (scale, bias) = (node.input(1, "gamma")?, node.input(2, "beta")?);
    let affine = [
        context.cast(scale, context.dtype(x))?,
        context.cast(bias, context.dtype(x))?,
    ];
    let x = if last { channels_first(context, x)? } else { x };
    let norm = ops::GroupNorm { groups, epsilon };
    let mut result = context.push(norm, &[x, affine[0], affine[1]])?;
    if silu {
        result = context.push(ops::Silu, &[result])?;
    }
    if last {
        channels_last(context, result)
    } else {
        Ok(result)
    }
}

/// Layer norm of `input + skip + bias`; the sum is the fourth result.
pub(crate) fn skip_layer_normalization(
    context: &mut Context,
    node: &Node<'_>,
) -> Result<Vec<Wire>> {
    let (x, skip) = (node.input(0, "input")?, node.input(1, "skip")?);
    let mut sum = context.push(ops::Add, &[x, skip])?;
    if let Some(bias) = node.optional(4) {
        sum = context.push(ops::Add, &[sum, bias])?;
    }
    // The default of this operator is 1e-12.
    let epsilon = node.float_or("epsilon", 1e-12)?;
    let mut operands = vec![sum, node.input(2, "gamma")?];
    operands.extend(node.optional(3));
    let result = context.push(ops::LayerNorm { axes: 1, epsilon }, &operands)?;
    let mut results = vec![result];
    if node.results() > 1 {
        let last = context.rank(sum) - 1;
        results.extend(statistics(context, sum, last, epsilon)?);
        results.push(sum);
    }
    Ok(results)
}
