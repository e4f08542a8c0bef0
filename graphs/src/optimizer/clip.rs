//! Clipping: a gradient longer than a norm is shortened to it.
//!
//! Takes a flat gradient, gives its norm and the gradient to use. It knows no optimiser.

use compiler::graph::{Builder, GraphError, Value};
use compiler::ops::{Add, Div, Dot, Min, Mul, Sqrt};

use super::states::scalar;

/// The Euclidean norm of a flat gradient: f32 `[]`.
pub(super) fn norm(builder: &mut Builder, gradient: Value) -> Result<Value, GraphError> {
    let (axes, keep) = (vec![0], false);
    let squares = builder.push(Dot { axes, keep }, &[gradient, gradient])?;
    builder.push(Sqrt, &[squares])
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
