//! The operator [`Broadcast`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::pick;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{broadcast_strides, each_index, offset, stretches_to};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, i, …] = x[…, i or 0, …]`: axes are aligned at the last one, an extent of 1 is
/// repeated, missing leading axes are added.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x` and the shape `shape`.
///
/// # Constraints
/// * C1: `x` has at most as many axes as `shape`, and each extent is that of `shape` or 1.
///
/// # Gradient
/// `dx` is `dr` summed over the axes along which `x` was stretched.
///
/// # Source
/// NumPy `broadcast_to`; ONNX `Expand` with the result's shape resolved by the importer.
#[derive(Debug, Clone, PartialEq)]
pub struct Broadcast {
    /// The extents of the result.
    pub shape: Vec<Dim>,
}

attributes!(Broadcast { shape });

impl Operator for Broadcast {
    const NAME: &'static str = "broadcast";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        stretches_to("C1", operands[0], &self.shape)?;
        Ok(TensorType::new(operands[0].dtype, self.shape.clone()))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let strides = broadcast_strides(&operands[0].shape, &result.shape);
        let mut sources = Vec::with_capacity(result.elements());
        each_index(&result.shape, |index| {
            sources.push(Some((0, offset(index, &strides))));
        });
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| at.sum_to(at.cotangent, at.operand(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn only_stretching_is_accepted() {
        let cases: &[(&[i64], &[i64], bool)] = &[
            (&[], &[2, 3], true),
            (&[3, 1], &[2, 3, 4], true),
            (&[1], &[0], true),
            (&[3], &[1], false),
            (&[2, 3], &[3], false),
            (&[1, 3], &[3], false),
            (&[4], &[3], false),
        ];
        for (from, to, accepted) in cases {
            let shape = to.iter().map(|&d| Dim::from(d)).collect();
            let x = TensorType::new(DType::F32, from.iter().copied());
            let found = Broadcast { shape }.infer(&[&x]);
            assert_eq!(found.is_ok(), *accepted, "{from:?} to {to:?}");
        }
    }
}
