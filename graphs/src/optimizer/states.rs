//! How the states and scalars of a training step are written.
//!
//! Takes a builder and names, adds states, scalar inputs and constants to it. It updates nothing.

use compiler::graph::{Builder, GraphError, Role, TensorType, Value};
use compiler::ops::{Add, Mul, Sub};
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

/// Whether a micro-batch is the last of its update, 1 or 0: f32 `[]`, an input of steps that
/// accumulate.
pub(super) const LAST: &str = "accumulate.last";

/// The share of the sum of gradients that stays: 0 after the last micro-batch of an update, else 1:
/// f32 `[]`, an input of steps that accumulate.
pub(super) const GATHER: &str = "accumulate.keep";

/// `1 − β₁`, or 0 where nothing is updated: f32 `[]`, an input.
pub(super) const FIRST_RATE: &str = "adamw.first_rate";

/// `β₂`, or 1 where nothing is updated: f32 `[]`, an input.
pub(super) const SECOND_KEEP: &str = "adamw.second_keep";

/// `1 − β₂`, or 0 where nothing is updated: f32 `[]`, an input.
pub(super) const SECOND_RATE: &str = "adamw.second_rate";

/// A state and what replaces it.
pub(super) struct Replaced {
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
