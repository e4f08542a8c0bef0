//! Probes: which value of a function is the first that is not finite.
//!
//! Takes a function, returns it with one more result for every value: 0 where all elements are
//! finite, NaN elsewhere. It is for finding faults, and takes the time of one more reading of
//! every value.

use super::names::LOSS;
use crate::graph::{Builder, Definition, Func, GraphError, Role, Value};
use crate::ops::{Cast, Class, Mul, ReduceSum};
use crate::value::dtype::DType;
use crate::value::tensor::Tensor;

/// What the names of probes begin with.
const PREFIX: &str = "probe ";

/// The words that a probe says its value by; `None` for a result that is not a probe.
pub fn probe_words(result: &str) -> Option<&str> {
    let (_, words) = result.strip_prefix(PREFIX)?.split_once(' ')?;
    Some(words)
}

/// `func` with a probe of every weight, state and floating-point value, in an order in which
/// operands come before their uses.
///
/// # Errors
/// When a value is too large to be summed up.
pub fn probed(func: &Func) -> Result<Func, GraphError> {
    let values = func.values();
    let values = values.filter_map(|(value, _)| Some((value, words(func, value)?)));
    let values: Vec<(Value, String)> = values.collect();
    let mut builder = Builder::resume(func.clone());
    let mut zeros = Vec::new();
    for (value, words) in values {
        let ty = builder.ty(value).clone();
        let zero = match zeros.iter().find(|(dtype, _)| *dtype == ty.dtype) {
            Some((_, zero)) => *zero,
            None => {
                let zero = builder.constant(Tensor::from_f32(&[], &[0.0]).cast(ty.dtype))?;
                zeros.push((ty.dtype, zero));
                zero
            }
        };
        // 0 times infinity is NaN, as is 0 times NaN.
        let vanished = builder.push(Mul, &[value, zero])?;
        let axes = (0..ty.rank()).collect();
        let sum = builder.push(ReduceSum { axes, keep: false }, &[vanished])?;
        let probe = builder.push(Cast { dtype: DType::F32 }, &[sum])?;
        builder.result(&format!("{PREFIX}{} {words}", value.0), probe)?;
    }
    Ok(builder.finish())
}

/// What a value is called in words; `None` for those that are not probed: inputs, which whoever
/// gives them can look at, constants, and what only moves elements of another value. What comes
/// after the loss is gradients.
fn words(func: &Func, value: Value) -> Option<String> {
    let data = func.value(value);
    if !data.ty.dtype.is_float() {
        return None;
    }
    let mut results = func.results().iter();
    let loss = results.find(|(name, _)| name == LOSS);
    let is_gradient = loss.is_some_and(|(_, loss)| value > *loss);
    let what = match is_gradient {
        true => "the gradient",
        false => "the result",
    };
    match &data.definition {
        Definition::Param(param) => match param.role {
            Role::Input => None,
            Role::Weight | Role::State => Some(format!("the parameter {:?}", param.name)),
        },
        Definition::Node(node) => match (node.op.class(), node.operands.is_empty()) {
            (Class::Movement, _) | (_, true) => None,
            _ if data.origin.is_empty() => Some(format!("{what} of {}", node.op.name())),
            _ => Some(format!("{what} of {} in {}", node.op.name(), data.origin)),
        },
    }
}
