//! The operator [`Div`].

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
/// `result = a / b`, elementwise; quotients of integers are rounded towards zero and wrap, and an
/// integer divided by zero is a fault.
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
/// `da = dr / b`, `db = −dr · r / b` for floats, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Div`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Div;

attributes!(Div {});

impl Operator for Div {
    const NAME: &'static str = "div";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        numeric("C3", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        arithmetic(
            operands,
            result,
            |a, b| a / b,
            |a, b| match b {
                0 => Err(Fault::DivisionByZero),
                b => Ok(a.wrapping_div(b)),
            },
        )
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (a, b) = (at.operand(0), at.operand(1));
        if !at.wants(0) && !at.wants(1) {
            return at.none();
        }
        let quotient = at.div(at.cotangent, b)?;
        let da = at.when(0, |at| at.sum_to(quotient, a))?;
        let db = at.when(1, |at| {
            let against = at.neg(quotient)?;
            at.product_to(against, at.result, b)
        })?;
        Ok(vec![da, db])
    }
}
