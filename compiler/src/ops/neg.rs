//! The operator [`Neg`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::elementary::{Elementary, Pointwise};
use crate::ops::pointwise::map_numbers;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = −x`; integers wrap.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is numeric.
///
/// # Gradient
/// `dx = −dr`.
///
/// # Source
/// ONNX `Neg`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neg;

attributes!(Neg {});

impl Operator for Neg {
    const NAME: &'static str = "neg";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        numeric("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_numbers(
            operands[0],
            Elementary::Neg.exact(),
            i64::wrapping_neg,
        ))
    }

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise::Unary(Elementary::Neg))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| at.neg(at.cotangent))
    }
}
