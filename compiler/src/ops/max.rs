//! The operator [`Max`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{arithmetic, extreme_gradient, infer_binary};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` is the larger of `a` and `b`, elementwise; NaN if one of them is.
///
/// # Operands
/// `a`, `b`: any shapes that broadcast.
///
/// # Result
/// The common element type and the broadcast shape.
///
/// # Constraints
/// * C1: both operands have one element type.
/// * C2: the shapes broadcast by NumPy's rule.
/// * C3: the element type is numeric.
///
/// # Gradient
/// `da = dr` where `a > b`, `db = dr` where `b > a`, half to both where they are equal, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Max` of two; NumPy `maximum`.
#[derive(Debug, Clone, PartialEq)]
pub struct Max;

attributes!(Max {});

impl Operator for Max {
    const NAME: &'static str = "max";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        numeric("C3", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        arithmetic(
            operands,
            result,
            |a, b| if a > b || a.is_nan() { a } else { b },
            |a, b| Ok(a.max(b)),
        )
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        extreme_gradient(at, true)
    }
}
