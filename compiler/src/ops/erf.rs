//! The operator [`Erf`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Exp, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

attributes!(Erf {});

impl Operator for Erf {
    const NAME: &'static str = "erf";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 2e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], libm::erf))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let x = at.operand(0);
            let square = at.mul(x, x)?;
            let against = at.neg(square)?;
            let bell = at.push(Exp, &[against])?;
            let slope = at.scaled(bell, std::f64::consts::FRAC_2_SQRT_PI)?;
            at.mul(at.cotangent, slope)
        })
    }
}
