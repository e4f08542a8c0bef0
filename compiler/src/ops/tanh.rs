//! The operator [`Tanh`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = tanh(x)`.
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
/// `dx = dr · (1 − r²)`.
///
/// # Source
/// ONNX `Tanh`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tanh;

float_function!(Tanh, "tanh", 1e-6, |at| at.unary(|at| {
    let square = at.mul(at.result, at.result)?;
    let slope = at.number_minus(1.0, square)?;
    at.mul(at.cotangent, slope)
}));
