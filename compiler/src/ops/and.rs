//! The operator [`And`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{infer_binary, zip};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::truth;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is true where both operands are.
///
/// # Operands
/// `a`, `b`: any shapes that broadcast.
///
/// # Result
/// Truth values in the broadcast shape.
///
/// # Constraints
/// * C1: both operands have one element type.
/// * C2: the shapes broadcast by NumPy's rule.
/// * C3: the element type is bool.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `And`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct And;

attributes!(And {});

impl Operator for And {
    const NAME: &'static str = "and";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        truth("C3", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (a, b) = (operands[0].truths(), operands[1].truths());
        zip(operands, result, |i, j| Ok(a[i] && b[j])).map(Values::Bool)
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
