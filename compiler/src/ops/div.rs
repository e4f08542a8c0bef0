//! The operator [`Div`].

use crate::ops::pointwise::arithmetic_function;
use crate::value::array::Fault;

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

arithmetic_function!(
    Div,
    "div",
    1e-6,
    |a, b| match b {
        0 => Err(Fault::DivisionByZero),
        b => Ok(a.wrapping_div(b)),
    },
    |at| {
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
);
