//! The scores of attention, which its operators share.
//!
//! Takes queries, keys and a mask, gives the extents of their scores or the constraint that fails,
//! and for the oracle one row of scores after the other. It weighs nothing with them.

use crate::graph::TensorType;
use crate::ops::Violation;
use crate::ops::shape::{broadcast_strides, exact_shape, offset, rank, stretches_to};
use crate::value::array::Array;
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::tensor::Values;

/// The extents `[batch, heads, queries, keys]` of the scores of `q` `[batch, heads, queries, d]`
/// and `k` `[batch, heads, keys, d]`, which have one floating-point type.
///
/// # Errors
/// `C1` when `mask` has neither truth values nor that type, `C2` when `q` or `k` has not four
/// axes, `C3` when they disagree, `C5` when `mask` does not stretch to the scores.
pub(crate) fn infer_scores(
    q: &TensorType,
    k: &TensorType,
    mask: Option<&TensorType>,
) -> Result<[Dim; 4], Violation> {
    rank("C2", q, 4)?;
    rank("C2", k, 4)?;
    let [batch, heads, queries, d] = [0, 1, 2, 3].map(|axis| q.shape[axis].clone());
    let keys = k.shape[2].clone();
    exact_shape("C3", k, &[batch.clone(), heads.clone(), keys.clone(), d])?;
    let scores = [batch, heads, queries, keys];
    if let Some(mask) = mask {
        let holds = [DType::Bool, q.dtype].contains(&mask.dtype);
        let wanted = format_args!("a mask of bool or {}", q.dtype);
        Violation::unless(holds, "C1", mask, wanted)?;
        stretches_to("C5", mask, &scores)?;
    }
    Ok(scores)
}

/// Scores that are computed row by row.
pub(crate) struct Scores<'a> {
    q: &'a Array,
    k: &'a Array,
    mask: Option<(&'a Array, Vec<usize>)>,
    scale: f64,
}

impl<'a> Scores<'a> {
    /// Of operands that [`infer_scores`] accepted.
    pub(crate) fn new(
        q: &'a Array,
        k: &'a Array,
        mask: Option<&&'a Array>,
        scale: f64,
    ) -> Scores<'a> {
        let scores = [q.shape[0], q.shape[1], q.shape[2], k.shape[2]];
        let stretched = |mask: &'a Array| (mask, broadcast_strides(&mask.shape, &scores));
        Scores {
            q,
            k,
            mask: mask.map(|mask| stretched(mask)),
            scale,
        }
    }

    /// `scale · q · k + mask` of the query at `[batch, head, query]` with every key; minus infinity
    /// where it does not see one.
    pub(crate) fn row(&self, query: &[usize], causal: bool) -> Vec<f64> {
        let (d, keys) = (self.q.shape[3], self.k.shape[2]);
        let head = query[0] * self.q.shape[1] + query[1];
        let q = &self.q.floats()[(head * self.q.shape[2] + query[2]) * d..][..d];
        let score = |key: usize| {
            if causal && key > query[2] {
                return f64::NEG_INFINITY;
            }
            let k = &self.k.floats()[(head * keys + key) * d..][..d];
            let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
            let added = self.mask.as_ref().map_or(0.0, |(mask, strides)| {
                masked(mask, offset(&[query[0], query[1], query[2], key], strides))
            });
            dot * self.scale + added
        };
        (0..keys).map(score).collect()
    }
}

/// What the element of a mask adds to a score.
fn masked(mask: &Array, position: usize) -> f64 {
    match &mask.values {
        Values::Bool(allowed) if allowed[position] => 0.0,
        Values::Bool(_) => f64::NEG_INFINITY,
        Values::Float(added) => added[position],
        Values::Int(_) => panic!("inferred as a mask of truth values or floats"),
    }
}
