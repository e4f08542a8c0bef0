//! The operator [`Mul`].

use crate::ops::pointwise::arithmetic_function;

/// # Meaning
/// `result = a · b`, elementwise; integers wrap.
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
/// `da = dr · b`, `db = dr · a`, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Mul`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Mul;

arithmetic_function!(Mul, "mul", 1e-6, |a, b| Ok(a.wrapping_mul(b)), |at| {
    let (a, b, dr) = (at.operand(0), at.operand(1), at.cotangent);
    let da = at.when(0, |at| at.product_to(dr, b, a))?;
    let db = at.when(1, |at| at.product_to(dr, a, b))?;
    Ok(vec![da, db])
});
