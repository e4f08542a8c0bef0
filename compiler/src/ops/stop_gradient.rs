//! The operator [`StopGradient`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = x`, of which nothing is learnt: a constant to every gradient.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// None.
///
/// # Gradient
/// None flows.
///
/// # Source
/// PyTorch `Tensor.detach`; JAX `lax.stop_gradient`.
#[derive(Debug, Clone, PartialEq)]
pub struct StopGradient;

attributes!(StopGradient {});

impl Operator for StopGradient {
    const NAME: &'static str = "stop_gradient";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(operands[0].values.clone())
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}
