//! The operator [`Abs`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::elementary::{Elementary, Pointwise};
use crate::ops::pointwise::map_numbers;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Less, Operator, Select, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

attributes!(Abs {});

impl Operator for Abs {
    const NAME: &'static str = "abs";
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
            Elementary::Abs.exact(),
            i64::wrapping_abs,
        ))
    }

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise::Unary(Elementary::Abs))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let (x, dr) = (at.operand(0), at.cotangent);
            let zero = at.number(0.0, x)?;
            let (below, above) = (at.push(Less, &[x, zero])?, at.push(Less, &[zero, x])?);
            let against = at.neg(dr)?;
            let along = at.push(Select, &[above, dr, zero])?;
            at.push(Select, &[below, against, along])
        })
    }
}
