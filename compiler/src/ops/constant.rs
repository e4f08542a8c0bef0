//! The operator [`Constant`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::{Tensor, Values};

/// # Meaning
/// `result = tensor`.
///
/// # Operands
/// None.
///
/// # Result
/// The type of `tensor`.
///
/// # Constraints
/// None.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Constant`.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// The value; large tensors are better weights, which stay in their file.
    pub tensor: Tensor,
}

attributes!(Constant { tensor });

impl Operator for Constant {
    const NAME: &'static str = "constant";
    const OPERANDS: (usize, usize) = (0, 0);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, _operands: &[&TensorType]) -> Result<TensorType, Violation> {
        Ok(TensorType::of(&self.tensor))
    }

    fn eval(&self, _operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(self.tensor.values())
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }

    fn flops(&self, _operands: &[TensorType], _result: &TensorType) -> Dim {
        Dim::from(0)
    }
}
