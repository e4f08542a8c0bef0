//! The operator [`Silu`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Sigmoid, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

attributes!(Silu {});

impl Operator for Silu {
    const NAME: &'static str = "silu";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], |x| x / (1.0 + (-x).exp())))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let x = at.operand(0);
            let open = at.push(Sigmoid, &[x])?;
            let rest = at.number_minus(1.0, open)?;
            let bent = at.mul(x, rest)?;
            let one = at.number(1.0, x)?;
            let slope = at.add(bent, one)?;
            let slope = at.mul(open, slope)?;
            at.mul(at.cotangent, slope)
        })
    }

    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(4))
    }
}
