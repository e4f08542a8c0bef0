//! The operator [`Cos`].

use crate::ops::Sin;
use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = cos(x)`, `x` in radians.
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
/// `dx = −dr · sin(x)`.
///
/// # Source
/// ONNX `Cos`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cos;

float_function!(Cos, "cos", 1e-6, |at| at.unary(|at| {
    let sine = at.push(Sin, &[at.operand(0)])?;
    let against = at.neg(sine)?;
    at.mul(at.cotangent, against)
}));
