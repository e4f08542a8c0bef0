//! The operator [`Sqrt`].

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
/// `result = √x`; NaN below 0.
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
/// `dx = dr / (2 · r)`.
///
/// # Source
/// ONNX `Sqrt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sqrt;

attributes!(Sqrt {});

impl Operator for Sqrt {
    const NAME: &'static str = "sqrt";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::sqrt))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let half = at.scaled(at.cotangent, 0.5)?;
            at.div(half, at.result)
        })
    }
}
