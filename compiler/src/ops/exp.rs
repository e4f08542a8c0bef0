//! The operator [`Exp`].

use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = e^x`.
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
/// `dx = dr · r`.
///
/// # Source
/// ONNX `Exp`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exp;

float_function!(Exp, "exp", 1e-6, |at| at
    .unary(|at| at.mul(at.cotangent, at.result)));
