//! The operator [`LayerNorm`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::normalize::{check_epsilon, norm_gradient, normalize_rows};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{exact_shape, one_float};
use crate::ops::{Class, GroupStatistics, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

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

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        one_float("C1", operands)?;
        let x = operands[0];
        let found = format_args!("{} normalised axes of {x}", self.axes);
        let holds = (1..=x.rank()).contains(&self.axes);
        Violation::unless(holds, "C2", found, "from 1 to all of the axes")?;
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

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let x = at.operand(0);
        let (dtype, shape) = (at.ty(x).dtype, at.shape(x));
        let (leading, normalised) = shape.split_at(shape.len() - self.axes);
        let (rows, count): (usize, usize) = (leading.iter().product(), normalised.iter().product());
        if rows * count == 0 {
            return at.unsupported("it has no elements");
        }
        // Statistics of one channel per row.
        let stacked = at.reshape(x, &[rows, 1, count])?;
        let (groups, epsilon) = (1, self.epsilon);
        let statistics = at.push(GroupStatistics { groups, epsilon }, &[stacked])?;
        let wide = at.ty(statistics).dtype;
        let (x, dr) = (at.cast(x, wide)?, at.cast(at.cotangent, wide)?);
        let column = [leading, &vec![1; self.axes]].concat();
        let [mean, factor] = [0, 1].map(|which| at.slice(statistics, 2, which, 1));
        let (mean, factor) = (at.reshape(mean?, &column)?, at.reshape(factor?, &column)?);
        let centred = at.sub(x, mean)?;
        let normal = at.mul(centred, factor)?;
        let dx = at.when(0, |at| {
            let scaled = match at.has_operand(1) {
                true => {
                    let scale = at.cast(at.operand(1), wide)?;
                    at.mul(dr, scale)?
                }
                false => dr,
            };
            let axes: Vec<usize> = (leading.len()..shape.len()).collect();
            let share = 1.0 / count as f64;
            let mean = at.sum(scaled, &axes, true)?;
            let mean = at.scaled(mean, share)?;
            let slope = at.dot(scaled, normal, &axes, true)?;
            let slope = at.scaled(slope, share)?;
            norm_gradient(at, [scaled, normal], [mean, slope, factor], dtype)
        })?;
        let mut gradients = vec![dx];
        let axes: Vec<usize> = (0..leading.len()).collect();
        if at.has_operand(1) {
            gradients.push(at.when(1, |at| {
                let sum = at.dot(dr, normal, &axes, false)?;
                at.cast(sum, dtype)
            })?);
        }
        if at.has_operand(2) {
            gradients.push(at.when(2, |at| {
                let sum = at.sum(dr, &axes, false)?;
                at.cast(sum, dtype)
            })?);
        }
        Ok(gradients)
    }

    /// Two for the mean and its removal, three for the variance, three for the result.
    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(8))
    }
}
