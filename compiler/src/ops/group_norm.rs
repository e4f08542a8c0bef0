//! The operator [`GroupNorm`].

use crate::graph::{TensorType, Value};
use crate::ops::attribute::attributes;
use crate::ops::normalize::{check_epsilon, check_groups, norm_gradient, normalize_rows};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{exact_shape, one_float};
use crate::ops::{Class, GroupStatistics, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = (x − mean) / sqrt(variance + epsilon) · scale[channel] + bias[channel]`; mean and
/// (biased) variance are those of one image's `channels / groups` neighbouring channels.
///
/// # Operands
/// `x` `[batch, channels, …]`; optional `scale` and then `bias` `[channels]`.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: all operands have one floating-point element type.
/// * C2: `x` has two axes or more.
/// * C3: `groups` is at least 1 and divides the channels.
/// * C4: `scale` and `bias` have the shape `[channels]`.
/// * C5: `epsilon` is finite and not negative.
///
/// # Gradient
/// That of [`LayerNorm`](crate::ops::LayerNorm) with the group's elements as the normalised ones;
/// `dscale` and `dbias` are summed per channel.
///
/// # Source
/// Wu and He 2018 (arXiv 1803.08494), eqs. 1, 2 and 7; PyTorch `nn.GroupNorm`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNorm {
    /// The number of groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

attributes!(GroupNorm { groups, epsilon });

impl Operator for GroupNorm {
    const NAME: &'static str = "group_norm";
    const OPERANDS: (usize, usize) = (1, 3);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        one_float("C1", operands)?;
        let x = operands[0];
        check_groups(x, self.groups)?;
        for parameter in &operands[1..] {
            exact_shape("C4", parameter, &x.shape[1..2])?;
        }
        check_epsilon("C5", self.epsilon)?;
        Ok(x.clone())
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let channels = result.shape[1];
        let area: usize = result.shape[2..].iter().product();
        let extent = channels / self.groups * area;
        let mut values = normalize_rows(operands[0].floats(), extent, self.epsilon);
        let scale = operands.get(1).map(|scale| scale.floats());
        let bias = operands.get(2).map(|bias| bias.floats());
        for (position, value) in values.iter_mut().enumerate() {
            let channel = position / area % channels;
            *value = *value * scale.map_or(1.0, |scale| scale[channel])
                + bias.map_or(0.0, |bias| bias[channel]);
        }
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let x = at.operand(0);
        let (dtype, shape) = (at.ty(x).dtype, at.shape(x));
        let (groups, epsilon) = (self.groups, self.epsilon);
        let (batch, channels) = (shape[0], shape[1]);
        let share = channels / groups.max(1);
        let spatial: Vec<usize> = (2..shape.len()).collect();
        let count = share * shape[2..].iter().product::<usize>();
        if count == 0 {
            return at.unsupported("it has no elements");
        }
        let statistics = at.push(GroupStatistics { groups, epsilon }, &[x])?;
        let wide = at.ty(statistics).dtype;
        let (x, dr) = (at.cast(x, wide)?, at.cast(at.cotangent, wide)?);
        // `[batch, channels, 1, …]` of what is known for each group, and for each channel.
        let along = [&[batch, channels][..], &vec![1; spatial.len()]].concat();
        let of_groups = |at: &mut Reverse<'_>, value: Value| {
            let value = at.reshape(value, &[batch, groups, 1])?;
            let value = at.broadcast(value, &[batch, groups, share])?;
            at.reshape(value, &along)
        };
        let [mean, factor] = [0, 1].map(|which| at.slice(statistics, 2, which, 1));
        let (mean, factor) = (of_groups(at, mean?)?, of_groups(at, factor?)?);
        let centred = at.sub(x, mean)?;
        let normal = at.mul(centred, factor)?;
        // Sums over each image and channel, `[batch, channels]`.
        let sum = at.sum(dr, &spatial, false)?;
        let product = at.dot(dr, normal, &spatial, false)?;
        let scale = match at.has_operand(1) {
            true => Some(at.cast(at.operand(1), wide)?),
            false => None,
        };
        let dx = at.when(0, |at| {
            let mean_of = |at: &mut Reverse<'_>, sums: Value| {
                let scaled = match scale {
                    Some(scale) => at.mul(sums, scale)?,
                    None => sums,
                };
                let scaled = at.reshape(scaled, &[batch, groups, share])?;
                let whole = at.sum(scaled, &[2], false)?;
                let mean = at.scaled(whole, 1.0 / count as f64)?;
                of_groups(at, mean)
            };
            let (mean, slope) = (mean_of(at, sum)?, mean_of(at, product)?);
            let scaled = match scale {
                Some(scale) => {
                    let ones = vec![1; spatial.len()];
                    let scale = at.reshape(scale, &[&[channels][..], &ones].concat())?;
                    at.mul(dr, scale)?
                }
                None => dr,
            };
            norm_gradient(at, [scaled, normal], [mean, slope, factor], dtype)
        })?;
        let mut gradients = vec![dx];
        for (number, sums) in (1..at.operands()).zip([product, sum]) {
            gradients.push(at.when(number, |at| {
                let whole = at.sum(sums, &[0], false)?;
                at.cast(whole, dtype)
            })?);
        }
        Ok(gradients)
    }

    /// Two for the mean and its removal, three for the variance, three for the result.
    fn flops(&self, _operands: &[TensorType], result: &TensorType) -> Dim {
        result.elements().mul(&Dim::from(8))
    }
}
