//! Names of what a training step keeps and reports, and how its states and scalars are written.
//!
//! Takes a builder and names, adds states, scalar inputs and constants to it. It updates nothing.

use compiler::graph::{Builder, GraphError, Role, TensorType, Value};
use compiler::ops::{Add, Mul, Sub};
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

/// The flat parameters: f32 `[parameters]`, a weight of steps and a state of training steps.
pub const STUDENT: &str = "student";

/// The flat moving average of the parameters: f32 `[parameters]`, a weight of steps and a state of
/// training steps.
pub const EMA: &str = "ema";

/// What is minimised: f32 `[]`, a result.
pub const LOSS: &str = "loss";

/// The flat sum of gradients since the last update: f32 `[parameters]`, a state of steps that
/// accumulate; it begins with zeros.
pub const GRADIENT: &str = "gradient";

/// The norm of the gradient before it is clipped: f32 `[]`, a result.
pub const GRAD_NORM: &str = "grad_norm";

/// Whether parameters were updated, 1 or 0: f32 `[]`, a result of steps with a [`LossScale`].
pub const UPDATED: &str = "updated";

/// A state and what replaces it.
pub(super) struct Update {
    pub(super) name: &'static str,
    pub(super) old: Value,
    pub(super) new: Value,
}

/// The state `name`: the one that the function has already, or a new one.
pub(super) fn state(
    builder: &mut Builder,
    name: &str,
    ty: TensorType,
) -> Result<Value, GraphError> {
    let same = |(value, found, _)| (found == name).then_some(value);
    let found = builder.func().params(Role::State).find_map(same);
    match found {
        Some(value) => Ok(value),
        None => builder.state(name, ty),
    }
}

/// `a + rate·(b − a)`: its fixed point is exactly `b`, whatever the rate is rounded to.
pub(super) fn lerp(
    builder: &mut Builder,
    a: Value,
    b: Value,
    rate: Value,
) -> Result<Value, GraphError> {
    let towards = builder.push(Sub, &[b, a])?;
    let towards = builder.push(Mul, &[rate, towards])?;
    builder.push(Add, &[a, towards])
}

/// An f32 input `[]`.
pub(super) fn scalar_input(builder: &mut Builder, name: &str) -> Result<Value, GraphError> {
    builder.input(name, TensorType::scalar(DType::F32))
}

/// An f32 constant `[]`.
pub(super) fn scalar(builder: &mut Builder, number: f64) -> Result<Value, GraphError> {
    builder.constant(scalar_tensor(number))
}

pub(super) fn scalar_tensor(number: f64) -> Tensor {
    Tensor::from_values(DType::F32, &[], &Values::Float(vec![number]))
}
