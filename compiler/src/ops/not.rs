//! The operator [`Not`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::truth;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is true where `x` is false.
///
/// # Operands
/// `x`: truth values of any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is bool.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Not`.
#[derive(Debug, Clone, PartialEq)]
pub struct Not;

attributes!(Not {});

impl Operator for Not {
    const NAME: &'static str = "not";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        truth("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let truths = operands[0].truths().iter();
        Ok(Values::Bool(truths.map(|truth| !truth).collect()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
