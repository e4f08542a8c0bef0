//! The operator [`Erf`].

use crate::ops::Exp;
use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = erf(x) = 2/√π · ∫₀ˣ e^{−t²} dt`.
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
/// `dx = dr · 2/√π · e^{−x²}`.
///
/// # Source
/// ONNX `Erf`; DLMF 7.2.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Erf;

float_function!(Erf, "erf", 2e-6, |at| at.unary(|at| {
    let x = at.operand(0);
    let square = at.mul(x, x)?;
    let against = at.neg(square)?;
    let bell = at.push(Exp, &[against])?;
    let slope = at.scaled(bell, std::f64::consts::FRAC_2_SQRT_PI)?;
    at.mul(at.cotangent, slope)
}));
