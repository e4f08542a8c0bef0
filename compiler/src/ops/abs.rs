//! The operator [`Abs`].

use crate::ops::elementary::Elementary;
use crate::ops::pointwise::{Function, pointwise_operator};
use crate::ops::{Less, Select};

/// # Meaning
/// `result = |x|`; the least integer is its own magnitude, by wrapping.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is numeric.
///
/// # Gradient
/// `dx = dr · sign(x)`, which is 0 at 0.
///
/// # Source
/// ONNX `Abs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Abs;

pointwise_operator!(
    Abs,
    "abs",
    0.0,
    Function::Number(Elementary::Abs, i64::wrapping_abs),
    |at| at.unary(|at| {
        let (x, dr) = (at.operand(0), at.cotangent);
        let zero = at.number(0.0, x)?;
        let (below, above) = (at.push(Less, &[x, zero])?, at.push(Less, &[zero, x])?);
        let against = at.neg(dr)?;
        let along = at.push(Select, &[above, dr, zero])?;
        at.push(Select, &[below, against, along])
    })
);
