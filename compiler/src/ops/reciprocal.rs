//! The operator [`Reciprocal`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::formula::{Application, Term};
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Div, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = 1 / x`.
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
/// `dx = −dr · r²`.
///
/// # Source
/// ONNX `Reciprocal`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reciprocal;

attributes!(Reciprocal {});

impl Operator for Reciprocal {
    const NAME: &'static str = "reciprocal";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::recip))
    }

    fn formula(&self) -> Vec<Application> {
        vec![Application::new(
            Div,
            &[Term::Number(1.0), Term::Operand(0)],
        )]
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let square = at.mul(at.result, at.result)?;
            let against = at.neg(square)?;
            at.mul(at.cotangent, against)
        })
    }
}
