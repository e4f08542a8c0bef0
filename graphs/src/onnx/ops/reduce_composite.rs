//! Reductions of a function of the elements: sums of sizes, squares and exponentials.
//!
//! Takes axes as every reduction does, returns the function, the IR's sum and what is done to it.
//! No axes to reduce leave the functions. 16-bit floats are summed in f32.

use compiler::DType;
use compiler::ops;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

use super::reduce::reduction;

/// What is summed, and what is taken of the sum.
fn reduce(
    context: &mut Context,
    node: &Node<'_>,
    each: impl FnOnce(&mut Context, Wire) -> Result<Wire>,
    all: impl FnOnce(&mut Context, Wire) -> Result<Wire>,
) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    let axes = axes.unwrap_or_default();
    let result = context.in_f32(x, |context, x| {
        let parts = each(context, x)?;
        let sum = context.push(ops::ReduceSum { axes, keep }, &[parts])?;
        all(context, sum)
    });
    Ok(vec![result?])
}

fn same(_context: &mut Context, x: Wire) -> Result<Wire> {
    Ok(x)
}

fn square(context: &mut Context, x: Wire) -> Result<Wire> {
    context.push(ops::Mul, &[x, x])
}

fn log(context: &mut Context, x: Wire) -> Result<Wire> {
    of_float(context, x, ops::Log)
}

/// A function of floats; that of an integer is computed in f64 and cut.
fn of_float(context: &mut Context, x: Wire, op: impl Into<ops::Op>) -> Result<Wire> {
    let dtype = context.dtype(x);
    let float = match dtype.is_float() {
        true => x,
        false => context.cast(x, DType::F64)?,
    };
    let result = context.push(op, &[float])?;
    context.cast(result, dtype)
}

/// `Σ |x|`.
pub(crate) fn reduce_l1(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let size = |context: &mut Context, x| context.push(ops::Abs, &[x]);
    reduce(context, node, size, same)
}

/// `√(Σ x²)`.
pub(crate) fn reduce_l2(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let root = |context: &mut Context, x| of_float(context, x, ops::Sqrt);
    reduce(context, node, square, root)
}

/// `Σ x²`.
pub(crate) fn reduce_sum_square(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    reduce(context, node, square, same)
}

/// `ln Σ x`.
pub(crate) fn reduce_log_sum(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    reduce(context, node, same, log)
}

/// `ln Σ eˣ`, as `m + ln Σ e^(x − m)` with the largest finite `m ≤ max x`, which does not overflow.
pub(crate) fn reduce_log_sum_exp(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    let axes = axes.unwrap_or_default();
    let dtype = context.dtype(x);
    let x = match dtype.is_float() {
        true => x,
        false => context.cast(x, DType::F64)?,
    };
    let result = context.in_f32(x, |context, x| {
        let largest = |keep| ops::ReduceMax {
            axes: axes.clone(),
            keep,
        };
        let finite = |context: &mut Context, m| {
            let m = context.push_scalar(ops::Max, m, f64::from(f32::MIN))?;
            context.push_scalar(ops::Min, m, f64::from(f32::MAX))
        };
        let m = context.push(largest(true), &[x])?;
        let m = finite(context, m)?;
        let below = context.push(ops::Sub, &[x, m])?;
        let powers = context.push(ops::Exp, &[below])?;
        let sum = context.push(
            ops::ReduceSum {
                axes: axes.clone(),
                keep,
            },
            &[powers],
        )?;
        let log = context.push(ops::Log, &[sum])?;
        let m = context.push(largest(keep), &[x])?;
        let m = finite(context, m)?;
        context.push(ops::Add, &[log, m])
    });
    Ok(vec![context.cast(result?, dtype)?])
}
