//! The operator [`ReduceMean`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reduction::{fold, infer};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = Σ x / n` over `axes`, with `n` the product of their extents; NaN for `n = 0`.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x`; extents of `axes` are 1, or removed without `keep`.
///
/// # Constraints
/// * C1: `axes` are sorted and distinct axes of `x`.
/// * C2: `x` is floating-point.
///
/// # Gradient
/// `dx = dr / n`, stretched over `axes`.
///
/// # Source
/// ONNX `ReduceMean`; empty `axes` change nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceMean {
    /// The axes that are averaged over.
    pub axes: Vec<usize>,
    /// Whether they remain, with extent 1.
    pub keep: bool,
}

attributes!(ReduceMean { axes, keep });

impl Operator for ReduceMean {
    const NAME: &'static str = "reduce_mean";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer(operands[0], &self.axes, self.keep)?;
        float("C2", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
        let sums = fold(shape, &self.axes, operands[0].floats(), 0.0, |sum, x| {
            sum + x
        });
        let means = sums.into_iter().map(|sum| sum / count as f64);
        Ok(Values::Float(means.collect()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let shape = at.shape(at.operand(0));
            let mut kept = shape.clone();
            self.axes.iter().for_each(|&axis| kept[axis] = 1);
            let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
            let share = at.scaled(at.cotangent, 1.0 / count as f64)?;
            let share = at.reshape(share, &kept)?;
            at.broadcast(share, &shape)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn a_mean_of_nothing_is_not_a_number() {
        let x = Array {
            shape: vec![2, 0],
            values: Values::Float(vec![]),
        };
        let mean = ReduceMean {
            axes: vec![1],
            keep: false,
        };
        let result = Extents {
            dtype: DType::F32,
            shape: vec![2],
        };
        let found = mean.eval(&[&x], &result);
        let all_nan = |values: Values| match values {
            Values::Float(values) => values.len() == 2 && values.iter().all(|v| v.is_nan()),
            Values::Int(_) | Values::Bool(_) => false,
        };
        assert_eq!(found.map(all_nan), Ok(true));
    }
}
