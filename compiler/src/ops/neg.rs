//! The operator [`Neg`].

use crate::ops::elementary::Elementary;
use crate::ops::pointwise::{Function, pointwise_operator};

/// # Meaning
/// `result = −x`; integers wrap.
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
/// `dx = −dr`.
///
/// # Source
/// ONNX `Neg`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neg;

pointwise_operator!(
    Neg,
    "neg",
    0.0,
    Function::Number(Elementary::Neg, i64::wrapping_neg),
    |at| at.unary(|at| at.neg(at.cotangent))
);
