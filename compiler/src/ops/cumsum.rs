//! The operator [`Cumsum`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::around;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{axis, numeric};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result_i = Σ_{j ≤ i} x_j` along `axis`; `j < i` when exclusive; from the end when reverse.
/// Integers wrap.
///
/// # Operands
/// `x`: one axis or more.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `axis` is an axis of `x`.
/// * C2: `x` is numeric.
///
/// # Gradient
/// `dx = cumsum(dr)` along `axis`, from the other end.
///
/// # Source
/// ONNX `CumSum`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cumsum {
    /// The axis along which sums grow.
    pub axis: usize,
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// Whether sums grow from the end.
    pub reverse: bool,
}

attributes!(Cumsum {
    axis,
    exclusive,
    reverse
});

impl Operator for Cumsum {
    const NAME: &'static str = "cumsum";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        axis("C1", operands[0], self.axis)?;
        numeric("C2", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let shape = &result.shape;
        match &operands[0].values {
            Values::Float(x) => Ok(Values::Float(self.scan(shape, x, |a, b| a + b))),
            Values::Int(x) => Ok(Values::Int(self.scan(shape, x, i64::wrapping_add))),
            Values::Bool(_) => panic!("inferred as a numeric operand"),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let reverse = !self.reverse;
            at.push(Cumsum { reverse, ..*self }, &[at.cotangent])
        })
    }
}

impl Cumsum {
    fn scan<T: Copy + Default>(&self, shape: &[usize], x: &[T], add: impl Fn(T, T) -> T) -> Vec<T> {
        let (outer, inner) = around(shape, self.axis);
        let extent = shape[self.axis];
        let mut sums = vec![T::default(); x.len()];
        for (block, i) in (0..outer).flat_map(|block| (0..inner).map(move |i| (block, i))) {
            let mut sum = T::default();
            for step in 0..extent {
                let index = if self.reverse {
                    extent - 1 - step
                } else {
                    step
                };
                let at = (block * extent + index) * inner + i;
                let with = add(sum, x[at]);
                sums[at] = if self.exclusive { sum } else { with };
                sum = with;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn sums_grow_as_told() {
        let x = Array {
            shape: vec![1, 3, 1],
            values: Values::Int(vec![1, 2, 4]),
        };
        let result = Extents {
            dtype: DType::I64,
            shape: vec![1, 3, 1],
        };
        let cases = [
            (false, false, vec![1, 3, 7]),
            (true, false, vec![0, 1, 3]),
            (false, true, vec![7, 6, 4]),
            (true, true, vec![6, 4, 0]),
        ];
        for (exclusive, reverse, wanted) in cases {
            let cumsum = Cumsum {
                axis: 1,
                exclusive,
                reverse,
            };
            assert_eq!(cumsum.eval(&[&x], &result), Ok(Values::Int(wanted)));
        }
    }
}
