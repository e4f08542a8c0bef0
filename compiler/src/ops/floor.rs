//! The operator [`Floor`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result` is the largest integer that is not above `x`.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
///
/// # Gradient
/// Zero.
///
/// # Source
/// ONNX `Floor`.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor;

float_function!(Floor, "floor", 0.0, |at| at.none());
