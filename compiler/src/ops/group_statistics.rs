//! The operator [`GroupStatistics`].

use crate::graph::{TensorType, Value};
use crate::ops::attribute::attributes;
use crate::ops::normalize::{check_epsilon, check_groups};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// Of each image's groups of `channels / groups` neighbouring channels, the `mean` and
/// `1 / sqrt(variance + epsilon)` with the biased variance: what [`GroupNorm`] normalises with.
///
/// [`GroupNorm`]: crate::ops::GroupNorm
///
/// # Operands
/// `x` `[batch, channels, …]`.
///
/// # Result
/// `[batch, groups, 2]` of the type in which elements of `x` are summed: f64 for f64, else f32.
/// Means come first.
///
/// # Constraints
/// * C1: `x` is floating-point.
/// * C2: `x` has two axes or more.
/// * C3: `groups` is at least 1 and divides the channels.
/// * C4: `epsilon` is finite and not negative.
///
/// # Gradient
/// With `m` the mean, `f` the factor, `dm` and `df` their gradients and `n` elements in a group:
/// `dx = (dm − df · f³ · (x − m)) / n`.
///
/// # Source
/// Wu and He 2018 (arXiv 1803.08494), eq. 2.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStatistics {
    /// The number of groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

attributes!(GroupStatistics { groups, epsilon });

impl Operator for GroupStatistics {
    const NAME: &'static str = "group_statistics";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        float("C1", x)?;
        check_groups(x, self.groups)?;
        check_epsilon("C4", self.epsilon)?;
        let shape = [x.shape[0].clone(), Dim::from(self.groups), Dim::from(2)];
        Ok(TensorType::new(x.dtype.accumulator(), shape))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let x = operands[0].floats();
        let rows = result.elements() / 2;
        let extent = x.len().checked_div(rows).unwrap_or(0);
        let count = extent as f64;
        let statistics = (0..rows).flat_map(|row| {
            let x = &x[row * extent..][..extent];
            let mean = x.iter().sum::<f64>() / count;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
            [mean, 1.0 / (variance + self.epsilon).sqrt()]
        });
        Ok(Values::Float(statistics.collect()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let x = at.operand(0);
            let (dtype, shape) = (at.ty(x).dtype, at.shape(x));
            let wide = at.ty(at.result).dtype;
            let (batch, groups) = (shape[0], self.groups);
            let share = shape[1] / groups.max(1);
            let count = share * shape[2..].iter().product::<usize>();
            let along = [&[batch, shape[1]][..], &vec![1; shape.len() - 2]].concat();
            let of_groups = |at: &mut Reverse<'_>, from: Value, which: usize| {
                let value = at.slice(from, 2, which, 1)?;
                let value = at.broadcast(value, &[batch, groups, share])?;
                at.reshape(value, &along)
            };
            let (mean, factor) = (of_groups(at, at.result, 0)?, of_groups(at, at.result, 1)?);
            let dmean = of_groups(at, at.cotangent, 0)?;
            let dfactor = of_groups(at, at.cotangent, 1)?;
            // d factor / dx = −factor³ · (x − mean) / count.
            let x = at.cast(x, wide)?;
            let centred = at.sub(x, mean)?;
            let square = at.mul(factor, factor)?;
            let cube = at.mul(square, factor)?;
            let slope = at.mul(dfactor, cube)?;
            let bent = at.mul(centred, slope)?;
            let sum = at.sub(dmean, bent)?;
            let dx = at.scaled(sum, 1.0 / count as f64)?;
            at.cast(dx, dtype)
        })
    }

    /// Two for the mean, three for the variance.
    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        operands[0].elements().mul(&Dim::from(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn groups_are_of_one_image() {
        let x = Array {
            shape: vec![2, 2, 2],
            values: Values::Float(vec![1.0, 3.0, 5.0, 5.0, -2.0, 2.0, 0.0, 8.0]),
        };
        let root = |x: f64| 1.0 / x.sqrt();
        let cases: &[(usize, f64, &[f64])] = &[
            (1, 1.25, &[3.5, 0.5, 2.0, root(15.25)]),
            (
                2,
                1.0,
                &[2.0, root(2.0), 5.0, 1.0, 0.0, root(5.0), 4.0, root(17.0)],
            ),
        ];
        for &(groups, epsilon, wanted) in cases {
            let statistics = GroupStatistics { groups, epsilon };
            let result = Extents {
                dtype: DType::F32,
                shape: vec![2, groups, 2],
            };
            let found = statistics.eval(&[&x], &result).map(|values| match values {
                Values::Float(values) => values,
                Values::Int(_) | Values::Bool(_) => Vec::new(),
            });
            let found = found.unwrap_or_default();
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
            }
        }
    }

    #[test]
    fn constraints() {
        let (f32, f16) = (DType::F32, DType::F16);
        let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape.iter().copied());
        let own = || ty(f32, &[2, 6, 3]);
        let cases = [
            (own(), 3, 1e-5, Ok(f32)),
            (ty(f16, &[2, 6]), 6, 0.0, Ok(f32)),
            (ty(DType::F64, &[2, 6]), 1, 0.0, Ok(DType::F64)),
            (ty(DType::I32, &[2, 6]), 1, 0.0, Err("C1")),
            (ty(f32, &[6]), 1, 0.0, Err("C2")),
            (own(), 4, 0.0, Err("C3")),
            (own(), 0, 0.0, Err("C3")),
            (own(), 3, f64::NAN, Err("C4")),
            (own(), 3, -1.0, Err("C4")),
        ];
        for (x, groups, epsilon, wanted) in cases {
            let found = GroupStatistics { groups, epsilon }.infer(&[&x]);
            let wanted = wanted.map(|dtype| TensorType::new(dtype, [2, groups, 2]));
            assert_eq!(found.map_err(|violation| violation.constraint), wanted);
        }
    }
}
