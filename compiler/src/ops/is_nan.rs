//! The operator [`IsNan`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is true where `x` is not a number.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// Truth values in the shape of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `IsNaN`.
#[derive(Debug, Clone, PartialEq)]
pub struct IsNan;

attributes!(IsNan {});

impl Operator for IsNan {
    const NAME: &'static str = "is_nan";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(TensorType::new(DType::Bool, operands[0].shape.clone()))
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let floats = operands[0].floats().iter();
        Ok(Values::Bool(floats.map(|x| x.is_nan()).collect()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
