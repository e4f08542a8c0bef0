//! The operator [`Relu`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::formula::{Application, Term};
use crate::ops::pointwise::map_numbers;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Less, Max, Operator, Select, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = x` where `x > 0`, else 0; NaN stays.
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
/// `dx = dr` where `x > 0`, else 0.
///
/// # Source
/// ONNX `Relu`.
#[derive(Debug, Clone, PartialEq)]
pub struct Relu;

attributes!(Relu {});

impl Operator for Relu {
    const NAME: &'static str = "relu";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        numeric("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_numbers(
            operands[0],
            |x| if x < 0.0 { 0.0 } else { x },
            |x| x.max(0),
        ))
    }

    fn formula(&self) -> Vec<Application> {
        vec![Application::new(
            Max,
            &[Term::Operand(0), Term::Number(0.0)],
        )]
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let zero = at.number(0.0, at.cotangent)?;
            let above = at.push(Less, &[zero, at.operand(0)])?;
            at.push(Select, &[above, at.cotangent, zero])
        })
    }
}
