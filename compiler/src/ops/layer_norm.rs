//! The operator [`LayerNorm`].

use crate::dim::Dim;
use crate::eval::{Array, Fault};
use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::normalize::{check_epsilon, normalize_rows};
use crate::ops::shape::{exact_shape, one_float};
use crate::ops::{Class, Extents, Operator, Violation};
use crate::tensor::Values;

/// # Meaning
/// `result = (x − mean) / sqrt(variance + epsilon) · scale + bias`; mean and (biased) variance are
/// those of the elements that share all but the last `axes` indices.
///
/// # Operands
/// `x`: any shape; optional `scale` and then `bias`: the extents of the last `axes` axes of `x`.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: all operands have one floating-point element type.
/// * C2: `axes` is at least 1 and at most the number of axes of `x`.
/// * C3: `scale` and `bias` have the extents of the last `axes` axes.
/// * C4: `epsilon` is finite and not negative.
///
/// # Gradient
/// With `n = (x − mean) · r`, `r = 1 / sqrt(variance + epsilon)` and `g = dr · scale`:
/// `dx = r · (g − mean(g) − n · mean(g · n))`, `dscale = Σ dr · n`, `dbias = Σ dr`.
///
/// # Source
/// Ba et al. 2016 (arXiv 1607.06450), eqs. 3 and 4; PyTorch `nn.LayerNorm`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// How many of the last axes are normalised together.
    pub axes: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

attributes!(LayerNorm { axes, epsilon });

impl Operator for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const OPERANDS: (usize, usize) = (1, 3);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[TensorType]) -> Result<TensorType, Violation> {
        one_float("C1", operands)?;
        let x = &operands[0];
        if self.axes == 0 || self.axes > x.rank() {
            let found = format!("{} normalised axes of {x}", self.axes);
            return Err(Violation::new("C2", found, "from 1 to all of the axes"));
        }
        let wanted = &x.shape[x.rank() - self.axes..];
        for parameter in &operands[1..] {
            exact_shape("C3", parameter, wanted)?;
        }
        check_epsilon("C4", self.epsilon)?;
        Ok(x.clone())
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let normalised = &result.shape[result.shape.len() - self.axes..];
        let extent: usize = normalised.iter().product();
        let mut values = normalize_rows(operands[0].floats(), extent, self.epsilon);
        let scale = operands.get(1).map(|scale| scale.floats());
        let bias = operands.get(2).map(|bias| bias.floats());
        for (position, value) in values.iter_mut().enumerate() {
            let column = position % extent;
            *value = *value * scale.map_or(1.0, |scale| scale[column])
                + bias.map_or(0.0, |bias| bias[column]);
        }
        Ok(Values::Float(values))
    }

    /// Two for the mean and its removal, three for the variance, three for the result.
    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(8))
    }
}
