//! Kernels over rows of neighbouring elements: norms, softmax, reductions.
//!
//! Takes values, gives buffers, in the memory of a dying operand where there is one. Sums and
//! statistics are in f64.

use compiler::ops::{Extents, GroupNorm, LayerNorm};

use super::math::{exponentials, largest, map_in_place, sum, vectorized};
use super::movement::BLOCK;
use super::threads::{chunks, each};
use super::value::Value;

/// Calls `work` with the number of each row of `extent` elements and the row.
fn each_row(out: &mut [f32], extent: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = BLOCK.div_ceil(extent.max(1));
    each(chunks(out, rows * extent), |(index, block)| {
        for (row, elements) in block.chunks_mut(extent).enumerate() {
            work(index * rows + row, elements);
        }
    });
}

/// Softmax over the last elements `extent`.
pub(crate) fn softmax(mut operands: Vec<Value>, extent: usize) -> Vec<f32> {
    let mut out = operands.remove(0).take();
    each_row(&mut out, extent, |_, row| {
        let sum = exponentials(row);
        map_in_place(row, |x| x / sum);
    });
    out
}

/// The mean of a row and the factor `1 / sqrt(variance + epsilon)`.
fn statistics(row: &[f32], epsilon: f64) -> (f64, f64) {
    vectorized(|| {
        let count = row.len() as f64;
        let mean = sum(row, |x| x) / count;
        let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
        (mean, 1.0 / (variance + epsilon).sqrt())
    })
}

/// `(x − mean) / sqrt(variance + epsilon) · scale + bias` over the last axes.
pub(crate) fn layer_norm(op: &LayerNorm, mut operands: Vec<Value>) -> Vec<f32> {
    let x = operands.remove(0);
    let extent = x.shape[x.shape.len() - op.axes..].iter().product();
    let mut out = x.take();
    let (scale, bias) = (operands.first(), operands.get(1));
    each_row(&mut out, extent, |_, row| {
        let (mean, factor) = statistics(row, op.epsilon);
        let normal = |x: f32| ((f64::from(x) - mean) * factor) as f32;
        map_in_place(row, normal);
        if let Some(scale) = scale {
            row.iter_mut()
                .zip(scale.floats())
                .for_each(|(x, scale)| *x *= scale);
        }
        if let Some(bias) = bias {
            row.iter_mut()
                .zip(bias.floats())
                .for_each(|(x, bias)| *x += bias);
        }
    });
    out
}

/// `(x − mean) / sqrt(variance + epsilon) · scale[channel] + bias[channel]` over groups of
/// channels.
pub(crate) fn group_norm(op: &GroupNorm, mut operands: Vec<Value>) -> Vec<f32> {
    let x = operands.remove(0);
    let area: usize = x.shape[2..].iter().product();
    let share = x.shape[1] / op.groups;
    let mut out = x.take();
    let parameter = |index: usize, channel: usize, default: f64| {
        let value: Option<&Value> = operands.get(index);
        value.map_or(default, |value| f64::from(value.floats()[channel]))
    };
    each(chunks(&mut out, share * area), |(index, group)| {
        let (mean, factor) = statistics(group, op.epsilon);
        let first = index % op.groups * share;
        for (channel, plane) in group.chunks_exact_mut(area).enumerate() {
            let factor = factor * parameter(0, first + channel, 1.0);
            let bias = parameter(1, first + channel, 0.0);
            let normal = |x: f32| ((f64::from(x) - mean) * factor + bias) as f32;
            map_in_place(plane, normal);
        }
    });
    out
}

/// How a row becomes one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    Mean,
    Max,
}

/// Folds `axes`; `None` where they are not the last ones.
pub(crate) fn reduce(
    reduction: Reduction,
    x: &Value,
    axes: &[usize],
    result: &Extents,
) -> Option<Vec<f32>> {
    let kept = x.shape.len() - axes.len();
    if axes.iter().any(|&axis| axis < kept) {
        return None;
    }
    let extent: usize = x.shape[kept..].iter().product();
    let x = x.floats();
    let mut out = vec![0.0; result.elements()];
    let rows = BLOCK.div_ceil(extent.max(1));
    each(chunks(&mut out, rows), |(index, block)| {
        for (row, out) in block.iter_mut().enumerate() {
            let row = &x[(index * rows + row) * extent..][..extent];
            *out = vectorized(|| match reduction {
                Reduction::Sum => sum(row, |x| x) as f32,
                Reduction::Mean => (sum(row, |x| x) / extent as f64) as f32,
                Reduction::Max if row.iter().any(|x| x.is_nan()) => f32::NAN,
                Reduction::Max => largest(row),
            });
        }
    });
    Some(out)
}
