//! The operator [`Min`].

use crate::ops::pointwise::{arithmetic_function, extreme_gradient};

/// # Meaning
/// `result` is the smaller of `a` and `b`, elementwise; NaN if one of them is.
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
/// `da = dr` where `a < b`, `db = dr` where `b < a`, half to both where they are equal, each summed
/// over the axes along which it was stretched.
///
/// # Source
/// ONNX `Min` of two; NumPy `minimum`.
#[derive(Debug, Clone, PartialEq)]
pub struct Min;

arithmetic_function!(Min, "min", 0.0, |a, b| Ok(a.min(b)), |at| extreme_gradient(
    at, false
));
