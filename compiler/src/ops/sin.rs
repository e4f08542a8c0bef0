//! The operator [`Sin`].

use crate::ops::Cos;
use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = sin(x)`, `x` in radians.
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
/// `dx = dr · cos(x)`.
///
/// # Source
/// ONNX `Sin`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sin;

float_function!(Sin, "sin", 1e-6, |at| at.unary(|at| {
    let cosine = at.push(Cos, &[at.operand(0)])?;
    at.mul(at.cotangent, cosine)
}));
