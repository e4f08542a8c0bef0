//! The operator [`Transpose`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::pick;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{each_index, offset, rank, strides};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[i_{p0}, i_{p1}, …] = x[i_0, i_1, …]` with `p = permutation`: axis `a` of the result is
/// axis `p_a` of `x`.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x`; extent `a` is extent `p_a` of `x`.
///
/// # Constraints
/// * C1: `permutation` has one entry for each axis of `x`.
/// * C2: `permutation` holds every axis once.
///
/// # Gradient
/// `dx = transpose(dr)` by the inverse permutation.
///
/// # Source
/// ONNX `Transpose`; PyTorch `permute`.
#[derive(Debug, Clone, PartialEq)]
pub struct Transpose {
    /// The axis of `x` that each axis of the result is.
    pub permutation: Vec<usize>,
}

attributes!(Transpose { permutation });

impl Operator for Transpose {
    const NAME: &'static str = "transpose";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        rank("C1", x, self.permutation.len())?;
        let mut seen = vec![false; x.rank()];
        for &axis in &self.permutation {
            if seen.get(axis) != Some(&false) {
                let found = format!("permutation {:?}", self.permutation);
                return Err(Violation::new("C2", found, "every axis once"));
            }
            seen[axis] = true;
        }
        let extents = self.permutation.iter().map(|&axis| x.shape[axis].clone());
        Ok(TensorType::new(x.dtype, extents))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let own = strides(&operands[0].shape);
        let permuted: Vec<usize> = self.permutation.iter().map(|&axis| own[axis]).collect();
        let mut sources = Vec::with_capacity(result.elements());
        each_index(&result.shape, |index| {
            sources.push(Some((0, offset(index, &permuted))));
        });
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let mut back = vec![0; self.permutation.len()];
            let places = self.permutation.iter().enumerate();
            places.for_each(|(place, &axis)| back[axis] = place);
            at.transpose(at.cotangent, &back)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn constraints() {
        let cases: &[(&[usize], Option<&str>)] = &[
            (&[2, 0, 1], None),
            (&[0, 1], Some("C1")),
            (&[0, 1, 1], Some("C2")),
            (&[0, 1, usize::MAX], Some("C2")),
        ];
        for (permutation, wanted) in cases {
            let permutation = permutation.to_vec();
            let x = TensorType::new(DType::Bool, [2, 3, 4]);
            let found = Transpose { permutation }.infer(&[&x]);
            assert_eq!(found.err().map(|violation| violation.constraint), *wanted);
        }
    }
}
