//! Clipping: a gradient longer than a norm is shortened to it.
//!
//! Takes a flat gradient, gives its norm and the gradient to use. It knows no optimiser.

use compiler::graph::{Builder, GraphError, Value};
use compiler::ops::{Add, Div, Min, Mul, ReduceSum, Sqrt};

use super::scalar;

/// The Euclidean norm of a flat gradient: f32 `[]`.
pub(super) fn norm(builder: &mut Builder, gradient: Value) -> Result<Value, GraphError> {
    let squares = builder.push(Mul, &[gradient, gradient])?;
    let sum = ReduceSum {
        axes: vec![0],
        keep: false,
    };
    let sum = builder.push(sum, &[squares])?;
    builder.push(Sqrt, &[sum])
}

/// `gradient · min(1, norm_max / (norm + 1e-6))`.
///
/// # Source
/// `torch.nn.utils.clip_grad_norm_`.
pub(super) fn shorten(
    builder: &mut Builder,
    gradient: Value,
    norm: Value,
    norm_max: f64,
) -> Result<Value, GraphError> {
    let small = scalar(builder, 1e-6)?;
    let norm = builder.push(Add, &[norm, small])?;
    let norm_max = scalar(builder, norm_max)?;
    let share = builder.push(Div, &[norm_max, norm])?;
    let one = scalar(builder, 1.0)?;
    let share = builder.push(Min, &[share, one])?;
    builder.push(Mul, &[gradient, share])
}
