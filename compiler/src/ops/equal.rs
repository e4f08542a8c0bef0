//! The operator [`Equal`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{compare, infer_binary, zip};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is true where `a = b`; NaN equals nothing.
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
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Equal`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Equal;

attributes!(Equal {});

impl Operator for Equal {
    const NAME: &'static str = "equal";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        Ok(TensorType {
            dtype: DType::Bool,
            ..ty
        })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        match (&operands[0].values, &operands[1].values) {
            (Values::Bool(a), Values::Bool(b)) => {
                zip(operands, result, |i, j| Ok(a[i] == b[j])).map(Values::Bool)
            }
            (_, _) => compare(operands, result, |a, b| a == b, |a, b| a == b),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
