//! The operator [`Sub`].

use crate::ops::pointwise::arithmetic_function;

/// # Meaning
/// `result = a − b`, elementwise; integers wrap.
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
/// `da = dr`, `db = −dr`, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Sub`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Sub;

arithmetic_function!(Sub, "sub", 1e-6, |a, b| Ok(a.wrapping_sub(b)), |at| {
    let dr = at.cotangent;
    let da = at.when(0, |at| at.sum_to(dr, at.operand(0)))?;
    let db = at.when(1, |at| {
        let against = at.neg(dr)?;
        at.sum_to(against, at.operand(1))
    })?;
    Ok(vec![da, db])
});
