//! The operator [`Concat`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::{around, pick};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{axis, same_dtype};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// The operands one after the other along `axis`.
///
/// # Operands
/// `x_0`, `x_1`, …: equal shapes but for `axis`.
///
/// # Result
/// The common element type; the extent of `axis` is the sum of the operands'.
///
/// # Constraints
/// * C1: all operands have one element type.
/// * C2: `axis` is an axis of the first operand.
/// * C3: all operands have equal extents on every other axis.
///
/// # Gradient
/// `dx_i` is the slice of `dr` that `x_i` filled.
///
/// # Source
/// ONNX `Concat`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concat {
    /// The axis that grows.
    pub axis: usize,
}

attributes!(Concat { axis });

impl Operator for Concat {
    const NAME: &'static str = "concat";
    const OPERANDS: (usize, usize) = (1, 1024);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = same_dtype("C1", operands)?;
        axis("C2", operands[0], self.axis)?;
        let mut shape = operands[0].shape.clone();
        for operand in &operands[1..] {
            let fits = operand.rank() == shape.len()
                && (0..shape.len()).all(|a| a == self.axis || operand.shape[a] == shape[a]);
            if !fits {
                let found = format!("{} and {operand}", operands[0]);
                let wanted = format!("equal extents but on axis {}", self.axis);
                return Err(Violation::new("C3", found, wanted));
            }
            shape[self.axis] = shape[self.axis].add(&operand.shape[self.axis]);
        }
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let (outer, inner) = around(&result.shape, self.axis);
        let mut sources = Vec::with_capacity(result.elements());
        for block in 0..outer {
            for (number, operand) in operands.iter().enumerate() {
                let length = operand.shape[self.axis] * inner;
                sources.extend((0..length).map(|i| Some((number, block * length + i))));
            }
        }
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (mut start, mut gradients) = (0, Vec::with_capacity(at.operands()));
        for number in 0..at.operands() {
            let length = at.shape(at.operand(number))[self.axis];
            gradients.push(at.when(number, |at| {
                at.slice(at.cotangent, self.axis, start, length)
            })?);
            start += length;
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;
    use crate::ops::Op;
    use crate::value::dtype::DType;

    #[test]
    fn constraints() {
        let h = Dim::symbol("h");
        let ty = |shape: &[Dim]| TensorType::new(DType::F32, shape.iter().cloned());
        let a = ty(&[h.clone(), Dim::from(2)]);
        let twice = ty(&[h.mul(&Dim::from(2)), Dim::from(2)]);
        let cases = [
            (0, vec![a.clone(), a.clone()], Ok(twice)),
            (2, vec![a.clone()], Err("C2")),
            (0, vec![a.clone(), ty(&[h])], Err("C3")),
            (
                1,
                vec![a.clone(), ty(&[Dim::from(1), Dim::from(2)])],
                Err("C3"),
            ),
            (0, vec![a, TensorType::new(DType::F16, [1, 2])], Err("C1")),
        ];
        for (axis, operands, wanted) in cases {
            let found = Op::from(Concat { axis }).infer(&operands);
            assert_eq!(found.map_err(|violation| violation.constraint), wanted);
        }
    }
}
