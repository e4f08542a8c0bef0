//! The operator [`Sigmoid`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = σ(x) = 1 / (1 + e^{−x})`.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
///
/// # Gradient
/// `dx = dr · r · (1 − r)`.
///
/// # Source
/// ONNX `Sigmoid`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sigmoid;

attributes!(Sigmoid {});

impl Operator for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], |x| 1.0 / (1.0 + (-x).exp())))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let rest = at.number_minus(1.0, at.result)?;
            let slope = at.mul(at.result, rest)?;
            at.mul(at.cotangent, slope)
        })
    }

    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(3))
    }
}
