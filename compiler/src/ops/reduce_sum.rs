//! The operator [`ReduceSum`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reduction::{fold, infer};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = Σ x` over `axes`; integers wrap; nothing sums to 0.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x`; extents of `axes` are 1, or removed without `keep`.
///
/// # Constraints
/// * C1: `axes` are sorted and distinct axes of `x`.
/// * C2: `x` is numeric.
///
/// # Gradient
/// `dx = dr`, stretched over `axes`.
///
/// # Source
/// ONNX `ReduceSum`; empty `axes` change nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceSum {
    /// The axes that are summed over.
    pub axes: Vec<usize>,
    /// Whether they remain, with extent 1.
    pub keep: bool,
}

attributes!(ReduceSum { axes, keep });

impl Operator for ReduceSum {
    const NAME: &'static str = "reduce_sum";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer(operands[0], &self.axes, self.keep)?;
        numeric("C2", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        match &operands[0].values {
            Values::Float(x) => {
                let sums = fold(shape, &self.axes, x, 0.0, |sum, x| sum + x);
                Ok(Values::Float(sums))
            }
            Values::Int(x) => {
                let sums = fold(shape, &self.axes, x, 0, i64::wrapping_add);
                Ok(Values::Int(sums))
            }
            Values::Bool(_) => panic!("inferred as a numeric operand"),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let shape = at.shape(at.operand(0));
            let mut kept = shape.clone();
            self.axes.iter().for_each(|&axis| kept[axis] = 1);
            let dr = at.reshape(at.cotangent, &kept)?;
            at.broadcast(dr, &shape)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn axes_fold() {
        let x = Array {
            shape: vec![2, 1, 3],
            values: Values::Int(vec![1, 2, 3, 4, 5, i64::MAX]),
        };
        let last = i64::MAX.wrapping_add(3);
        let cases: &[(&[usize], &[i64])] = &[
            (&[], &[1, 2, 3, 4, 5, i64::MAX]),
            (&[0], &[5, 7, last]),
            (&[1, 2], &[6, 9i64.wrapping_add(i64::MAX)]),
            (&[0, 1, 2], &[15i64.wrapping_add(i64::MAX)]),
        ];
        for (axes, wanted) in cases {
            let sum = ReduceSum {
                axes: axes.to_vec(),
                keep: true,
            };
            let ty = TensorType::new(DType::I64, [2, 1, 3]);
            let shape = sum
                .infer(&[&ty])
                .ok()
                .and_then(|ty| ty.extents())
                .unwrap_or_default();
            let result = Extents {
                dtype: DType::I64,
                shape,
            };
            assert_eq!(result.elements(), wanted.len());
            assert_eq!(sum.eval(&[&x], &result), Ok(Values::Int(wanted.to_vec())));
        }
    }

    #[test]
    fn constraints() {
        let cases: &[(&[usize], DType, Option<&str>)] = &[
            (&[0, 2], DType::F32, None),
            (&[0, 3], DType::F32, Some("C1")),
            (&[usize::MAX], DType::F32, Some("C1")),
            (&[1, 0], DType::F32, Some("C1")),
            (&[1, 1], DType::F32, Some("C1")),
            (&[1], DType::Bool, Some("C2")),
        ];
        for (axes, dtype, wanted) in cases {
            let sum = ReduceSum {
                axes: axes.to_vec(),
                keep: false,
            };
            let found = sum.infer(&[&TensorType::new(*dtype, [2, 3, 4])]);
            assert_eq!(found.err().map(|violation| violation.constraint), *wanted);
        }
    }
}
