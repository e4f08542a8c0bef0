//! The operator [`LessEqual`].

use crate::ops::pointwise::{Function, pointwise_operator};

/// # Meaning
/// `result` is true where `a ≤ b`; false where one of them is NaN.
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
/// ONNX `LessOrEqual`, and `GreaterOrEqual` with its operands swapped; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct LessEqual;

pointwise_operator!(
    LessEqual,
    "less_equal",
    0.0,
    Function::Comparison(|a, b| a <= b, |a, b| a <= b),
    |at| at.none()
);
