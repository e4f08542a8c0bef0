//! The operator [`Sin`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Cos, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = sin(x)`, `x` in radians.
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
/// `dx = dr · cos(x)`.
///
/// # Source
/// ONNX `Sin`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sin;

attributes!(Sin {});

impl Operator for Sin {
    const NAME: &'static str = "sin";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::sin))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let cosine = at.push(Cos, &[at.operand(0)])?;
            at.mul(at.cotangent, cosine)
        })
    }
}
