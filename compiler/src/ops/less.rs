//! The operator [`Less`].

use crate::ops::pointwise::{Function, pointwise_operator};

/// # Meaning
/// `result` is true where `a < b`; NaN is less than nothing.
///
/// # Operands
/// `a`, `b`: any shapes that broadcast.
///
/// # Result
/// Truth values in the broadcast shape.
///
/// # Constraints
/// * C1: both operands have one element type.
/// * C2: the shapes broadcast by NumPy's rule.
/// * C3: the element type is numeric.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Less`, and `Greater` with its operands swapped; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Less;

pointwise_operator!(
    Less,
    "less",
    0.0,
    Function::Comparison(|a, b| a < b, |a, b| a < b),
    |at| at.none()
);
