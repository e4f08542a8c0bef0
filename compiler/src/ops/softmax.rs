//! The operator [`Softmax`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{axis, float};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result_i = e^{x_i − m} / Σ_j e^{x_j − m}` along `axis`, with `m = max_j x_j`. A row of nothing
/// but −∞ gives NaN.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
/// * C2: `axis` is one of its axes.
///
/// # Gradient
/// `dx = r · (dr − Σ_j dr_j · r_j)` along `axis`.
///
/// # Source
/// ONNX `Softmax` from opset 13; PyTorch `nn.Softmax`.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    /// The axis whose elements sum to 1.
    pub axis: usize,
}

attributes!(Softmax { axis });

impl Operator for Softmax {
    const NAME: &'static str = "softmax";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        axis("C2", operands[0], self.axis)?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let x = operands[0].floats();
        let extent = result.shape[self.axis];
        let inner: usize = result.shape[self.axis + 1..].iter().product();
        let outer: usize = result.shape[..self.axis].iter().product();
        let mut values = x.to_vec();
        for row in 0..outer * inner {
            let start = row / inner * extent * inner + row % inner;
            let mut elements: Vec<f64> = (0..extent).map(|i| x[start + i * inner]).collect();
            softmax_row(&mut elements);
            for (i, element) in elements.into_iter().enumerate() {
                values[start + i * inner] = element;
            }
        }
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let (r, dr) = (at.result, at.cotangent);
            let mean = at.dot(dr, r, &[self.axis], true)?;
            let above = at.sub(dr, mean)?;
            at.mul(r, above)
        })
    }

    /// A comparison, a subtraction, an exponential, an addition and a division.
    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(5))
    }
}

/// Replaces the elements of one row by their softmax.
pub(crate) fn softmax_row(row: &mut [f64]) {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}
