//! The operator [`Less`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{compare, infer_binary};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is true where `a < b`; NaN is less than nothing.
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
/// * C3: the element type is numeric.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Less`, and `Greater` with its operands swapped; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Less;

attributes!(Less {});

impl Operator for Less {
    const NAME: &'static str = "less";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        numeric("C3", &ty)?;
        Ok(TensorType {
            dtype: DType::Bool,
            ..ty
        })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        compare(operands, result, |a, b| a < b, |a, b| a < b)
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
