//! Row operators: norms, softmax and the merge of moments, on rows that are near.
//!
//! Takes rows of f32, gives rows. Sums and statistics are in f64.

use compiler::ops::Op;
use compiler::region::Anchor;

use super::math::{exponentials, map_in_place, short_sums, sum, vectorized};

/// What becomes of each row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RowOperator {
    /// `(x − mean) / sqrt(variance + epsilon)`, then scaled and shifted where there are parameters.
    LayerNorm { epsilon: f64 },
    /// `e^x / Σ e^x`.
    Softmax,
    /// Mean and `1 / sqrt(variance + epsilon)` from the means, then the sums of squared
    /// differences, of parts of `count` elements each.
    MergeMoments { epsilon: f64, count: usize },
}

impl RowOperator {
    /// What an anchor does to rows, if it works on rows.
    pub(crate) fn of(anchor: &Anchor) -> Option<RowOperator> {
        match anchor {
            Anchor::MergeMoments { epsilon, count, .. } => Some(RowOperator::MergeMoments {
                epsilon: *epsilon,
                count: *count,
            }),
            Anchor::Op {
                op: Op::LayerNorm(norm),
                ..
            } => Some(RowOperator::LayerNorm {
                epsilon: norm.epsilon,
            }),
            Anchor::Op {
                op: Op::Softmax(_), ..
            } => Some(RowOperator::Softmax),
            Anchor::Op { .. } | Anchor::Statistics { .. } | Anchor::Pointwise => None,
        }
    }

    /// One row; `parameters` are the scale and the bias of a norm.
    pub(crate) fn apply(self, row: &[f32], parameters: &[Vec<f32>], out: &mut [f32]) {
        match self {
            RowOperator::LayerNorm { epsilon } => layer_norm(row, epsilon, parameters, out),
            RowOperator::Softmax => {
                out.copy_from_slice(row);
                let sum = exponentials(out);
                map_in_place(out, |x| x / sum);
            }
            RowOperator::MergeMoments { epsilon, count } => {
                let (means, squares) = row.split_at(row.len() / 2);
                let parts = means.len() as f64;
                let mean = sum(means, |x| x) / parts;
                let between = sum(means, |x| (x - mean) * (x - mean)) * count as f64;
                let variance = (sum(squares, |x| x) + between) / (parts * count as f64);
                out[0] = mean as f32;
                out[1] = (1.0 / (variance + epsilon).sqrt()) as f32;
            }
        }
    }
}

/// The mean of a row and the factor `1 / sqrt(variance + epsilon)`.
fn statistics(row: &[f32], epsilon: f64) -> (f64, f64) {
    vectorized(|| {
        let count = row.len() as f64;
        let mean = short_sums(row, |x| x) / count;
        // Around a rounded mean the squares are larger by the square of its error: nothing.
        let near = mean as f32;
        let variance = short_sums(row, |x| (x - near) * (x - near)) / count;
        (mean, 1.0 / (variance + epsilon).sqrt())
    })
}

fn layer_norm(row: &[f32], epsilon: f64, parameters: &[Vec<f32>], out: &mut [f32]) {
    let (mean, factor) = statistics(row, epsilon);
    let (mean, factor) = (mean as f32, factor as f32);
    vectorized(|| {
        let normal = |x: f32| (x - mean) * factor;
        match parameters {
            [] => {
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = normal(x);
                }
            }
            [scale] => {
                for ((out, &x), scale) in out.iter_mut().zip(row).zip(scale) {
                    *out = normal(x) * scale;
                }
            }
            [scale, bias, ..] => {
                let parameters = scale.iter().zip(bias);
                for ((out, &x), (scale, bias)) in out.iter_mut().zip(row).zip(parameters) {
                    *out = normal(x) * scale + bias;
                }
            }
        }
    });
}
