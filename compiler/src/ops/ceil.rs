//! The operator [`Ceil`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result` is the least integer that is not below `x`.
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
/// ONNX `Ceil`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceil;

float_function!(Ceil, "ceil", 0.0, |at| at.none());
