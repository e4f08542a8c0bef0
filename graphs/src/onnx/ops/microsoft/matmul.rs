//! Products whose operands have another order of axes, or that an activation follows.
//!
//! Takes operands and their order, returns transpositions, the IR's product or convolution and the
//! activation.

use compiler::ops;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::super::activation::{ramp, sloped};
use super::super::linear::{gemm, product, scaled};
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

/// `Conv`, plus another tensor if there is one, and then an activation.
pub(crate) fn fused_conv(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, w) = (node.input(0, "X")?, node.input(1, "W")?);
    let mut result = convolve(context, node, x, w, node.optional(2))?;
    if let Some(other) = node.optional(3) {
        result = context.push(ops::Add, &[result, other])?;
    }
    let parameters = node.floats("activation_params")?.unwrap_or_default();
    Ok(vec![activated(context, node, result, &parameters)?])
}

/// `Gemm` and then an activation.
pub(crate) fn fused_gemm(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let result = gemm(context, node)?[0];
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta"] {
        if node.has(name) {
            parameters.push(node.float_or(name, 0.0)? as f32);
        }
    }
    Ok(vec![activated(context, node, result, &parameters)?])
}

/// The attribute `activation` of `x`, with up to two parameters.
fn activated(context: &mut Context, node: &Node<'_>, x: Wire, parameters: &[f32]) -> Result<Wire> {
    let name = node.text_or("activation", "")?;
    let parameters: Vec<f64> = parameters.iter().map(|&value| value.into()).collect();
    match (name.as_str(), parameters.as_slice()) {
        ("", _) => Ok(x),
        ("Relu", _) => context.push(ops::Relu, &[x]),
        ("Sigmoid", _) => context.push(ops::Sigmoid, &[x]),
        ("Tanh", _) => context.push(ops::Tanh, &[x]),
        ("LeakyRelu", &[alpha, ..]) => {
            let slope = context.scalar(context.dtype(x), alpha);
            sloped(context, x, slope)
        }
        ("HardSigmoid", &[alpha, beta, ..]) => ramp(context, x, alpha, beta),
        ("Clip", &[low, high, ..]) => {
            let above = context.push_scalar(ops::Max, x, low)?;
            context.push_scalar(ops::Min, above, high)
        }
        (_, _) => {
            let wanted = "Relu, Sigmoid or Tanh, or with parameters Clip, HardSigmoid or LeakyRelu";
            Err(node.refuse("activation", format!("{name} of {parameters:?}"), wanted))
        }
    }
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
