//! The operator [`Silu`].

use crate::ops::Sigmoid;
use crate::ops::pointwise::float_function;

/// # Meaning
/// `result = x · σ(x)` with `σ(x) = 1 / (1 + e^{−x})`.
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
/// `dx = dr · σ(x) · (1 + x · (1 − σ(x)))`.
///
/// # Source
/// Elfwing et al. 2017 (arXiv 1702.03118), eq. 9; PyTorch `nn.SiLU`.
#[derive(Debug, Clone, PartialEq)]
pub struct Silu;

float_function!(Silu, "silu", 1e-6, |at| at.unary(|at| {
    let x = at.operand(0);
    let open = at.push(Sigmoid, &[x])?;
    let rest = at.number_minus(1.0, open)?;
    let bent = at.mul(x, rest)?;
    let one = at.number(1.0, x)?;
    let slope = at.add(bent, one)?;
    let slope = at.mul(open, slope)?;
    at.mul(at.cotangent, slope)
}));
