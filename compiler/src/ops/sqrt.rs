//! The operator [`Sqrt`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = √x`; NaN below 0.
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
/// `dx = dr / (2 · r)`.
///
/// # Source
/// ONNX `Sqrt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sqrt;

float_function!(Sqrt, "sqrt", 1e-6, |at| at.unary(|at| {
    let half = at.scaled(at.cotangent, 0.5)?;
    at.div(half, at.result)
}));
