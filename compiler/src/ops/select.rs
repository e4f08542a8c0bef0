//! The operator [`Select`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::pick;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{broadcast, broadcast_strides, each_index, offset, same_dtype, truth};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = a` where `condition` holds, else `b`.
///
/// # Operands
/// `condition` (bool), `a`, `b`: any shapes that broadcast.
///
/// # Result
/// The element type of `a` and the shape to which all three broadcast.
///
/// # Constraints
/// * C1: `a` and `b` have one element type.
/// * C2: the three shapes broadcast by NumPy's rule.
/// * C3: `condition` is bool.
///
/// # Gradient
/// `da = select(condition, dr, 0)`, `db = select(condition, 0, dr)`, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Where`.
#[derive(Debug, Clone, PartialEq)]
pub struct Select;

attributes!(Select {});

impl Operator for Select {
    const NAME: &'static str = "select";
    const OPERANDS: (usize, usize) = (3, 3);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = same_dtype("C1", &operands[1..])?;
        truth("C3", operands[0])?;
        let choices = broadcast("C2", &operands[1].shape, &operands[2].shape)?;
        let shape = broadcast("C2", &operands[0].shape, &choices)?;
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let condition = operands[0].truths();
        let strides = [0, 1, 2].map(|i| broadcast_strides(&operands[i].shape, &result.shape));
        let mut sources = Vec::with_capacity(result.elements());
        each_index(&result.shape, |index| {
            let choice = match condition[offset(index, &strides[0])] {
                true => 0,
                false => 1,
            };
            let position = offset(index, &strides[choice + 1]);
            sources.push(Some((choice, position)));
        });
        Ok(pick(&operands[1..], &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (condition, dr) = (at.operand(0), at.cotangent);
        let da = at.when(1, |at| {
            let zero = at.number(0.0, dr)?;
            let chosen = at.push(Select, &[condition, dr, zero])?;
            at.sum_to(chosen, at.operand(1))
        })?;
        let db = at.when(2, |at| {
            let zero = at.number(0.0, dr)?;
            let chosen = at.push(Select, &[condition, zero, dr])?;
            at.sum_to(chosen, at.operand(2))
        })?;
        Ok(vec![None, da, db])
    }
}
