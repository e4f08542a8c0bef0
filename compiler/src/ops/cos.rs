//! The operator [`Cos`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Sin, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

attributes!(Cos {});

impl Operator for Cos {
    const NAME: &'static str = "cos";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::cos))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let sine = at.push(Sin, &[at.operand(0)])?;
            let against = at.neg(sine)?;
            at.mul(at.cotangent, against)
        })
    }
}
