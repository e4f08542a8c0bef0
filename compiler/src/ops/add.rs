//! The operator [`Add`].

use crate::ops::pointwise::arithmetic_function;

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

arithmetic_function!(Add, "add", 1e-6, |a, b| Ok(a.wrapping_add(b)), |at| {
    let dr = at.cotangent;
    let da = at.when(0, |at| at.sum_to(dr, at.operand(0)))?;
    let db = at.when(1, |at| at.sum_to(dr, at.operand(1)))?;
    Ok(vec![da, db])
});
