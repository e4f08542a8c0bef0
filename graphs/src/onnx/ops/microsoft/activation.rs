//! Variants of `Gelu`.
//!
//! Takes an operand and an optional bias, returns the IR's operator of the form.

use compiler::ops;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

/// `x · sigmoid(alpha · x)`.
pub(crate) fn quick_gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    const STEEPNESS: f32 = 1.702;
    let x = node.input(0, "X")?;
    let alpha = node.float_or("alpha", STEEPNESS)?;
    if alpha == f64::from(STEEPNESS) {
        let form = ops::GeluForm::Quick;
        return Ok(vec![context.push(ops::Gelu { form }, &[x])?]);
    }
    let scaled = context.push_scalar(ops::Mul, x, alpha)?;
    let gate = context.push(ops::Sigmoid, &[scaled])?;
    Ok(vec![context.push(ops::Mul, &[x, gate])?])
}

pub(crate) fn gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    of_sum(context, node, ops::GeluForm::Erf)
}

pub(crate) fn bias_gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    node.input(1, "B")?;
    of_sum(context, node, ops::GeluForm::Erf)
}

pub(crate) fn fast_gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    of_sum(context, node, ops::GeluForm::Tanh)
}

fn of_sum(context: &mut Context, node: &Node<'_>, form: ops::GeluForm) -> Result<Vec<Wire>> {
    let mut x = node.input(0, "X")?;
    if let Some(bias) = node.optional(1) {
        x = context.push(ops::Add, &[x, bias])?;
    }
    Ok(vec![context.push(ops::Gelu { form }, &[x])?])
}

/// The first half of `x + bias` times the `Gelu` of the second.
pub(crate) fn bias_split_gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, bias) = (node.input(0, "X")?, node.input(1, "bias")?);
    let sum = context.push(ops::Add, &[x, bias])?;
    Ok(vec![context.push(ops::Geglu, &[sum])?])
}
