//! The operator [`Sigmoid`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = σ(x) = 1 / (1 + e^{−x})`.
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
/// `dx = dr · r · (1 − r)`.
///
/// # Source
/// ONNX `Sigmoid`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sigmoid;

float_function!(Sigmoid, "sigmoid", 1e-6, |at| at.unary(|at| {
    let rest = at.number_minus(1.0, at.result)?;
    let slope = at.mul(at.result, rest)?;
    at.mul(at.cotangent, slope)
}));
