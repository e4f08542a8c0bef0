//! The operator [`Or`].

use crate::ops::pointwise::{Function, pointwise_operator};

/// # Meaning
/// `result` is true where one of the operands is.
///
/// # Operands
/// `a`, `b`: any shapes that broadcast.
///
/// # Result
/// Truth values in the broadcast shape.
///
/// # Constraints
/// * C1: both operands have one element type.
/// * C2: the shapes broadcast by NumPy's rule.
/// * C3: the element type is bool.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Or`; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Or;

pointwise_operator!(Or, "or", 0.0, Function::Logic(|a, b| a || b), |at| at
    .none());
