//! The operator [`Tanh`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

attributes!(Tanh {});

impl Operator for Tanh {
    const NAME: &'static str = "tanh";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::tanh))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let square = at.mul(at.result, at.result)?;
            let slope = at.number_minus(1.0, square)?;
            at.mul(at.cotangent, slope)
        })
    }
}
