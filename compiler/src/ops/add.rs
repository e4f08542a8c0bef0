//! The operator [`Add`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{arithmetic, infer_binary};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = a + b`, elementwise; integers wrap.
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
/// `da = dr`, `db = dr`, each summed over the axes along which it was stretched.
///
/// # Source
/// ONNX `Add`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Add;

attributes!(Add {});

impl Operator for Add {
    const NAME: &'static str = "add";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        numeric("C3", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        arithmetic(operands, result, |a, b| a + b, |a, b| Ok(a.wrapping_add(b)))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let dr = at.cotangent;
        let da = at.when(0, |at| at.sum_to(dr, at.operand(0)))?;
        let db = at.when(1, |at| at.sum_to(dr, at.operand(1)))?;
        Ok(vec![da, db])
    }
}
