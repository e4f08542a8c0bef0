//! The operator [`Round`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result` is the integer nearest to `x`; the even one where two are as near.
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
/// ONNX `Round`.
#[derive(Debug, Clone, PartialEq)]
pub struct Round;

float_function!(Round, "round", 0.0, |at| at.none());
