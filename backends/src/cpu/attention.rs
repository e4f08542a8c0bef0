//! Attention: a block of queries at a time meets all keys, so that the scores of a head never
//! exist at once.
//!
//! Takes values, gives a buffer; shapes are as the operator inferred them.

use compiler::ops::{Attention, Extents};
use compiler::tensor::Values;

use super::gemm::{Into, Matrix, On, gemm};
use super::math::exponentials;
use super::threads::each;
use super::value::{Data, Value};

/// Scores that one task holds.
const SCORES: usize = 1 << 19;

/// What is added to the scores, and how far apart its elements are along batch, heads, queries
/// and keys.
struct Mask {
    added: Vec<f32>,
    strides: [usize; 4],
}

/// Queries of one head and where their results go.
struct Task<'a> {
    head: usize,
    first: usize,
    out: &'a mut [f32],
}

/// `softmax(scale · q · kᵀ + mask) · v`.
pub(crate) fn attention(op: &Attention, operands: &[Value], result: &Extents) -> Vec<f32> {
    let (queries, d) = (operands[0].shape[2], operands[0].shape[3]);
    let (keys, e) = (operands[1].shape[2], operands[2].shape[3]);
    let (heads, scale) = (result.shape[1], op.scale as f32);
    let [q, k, v] = [0, 1, 2].map(|i| operands[i].floats());
    let mask = operands.get(3).map(mask);
    let mut out = vec![0.0; result.elements()];
    let block = (SCORES / keys.max(1)).clamp(8, 128).min(queries.max(1));
    let heads_out = out.chunks_mut((queries * e).max(1)).enumerate();
    let tasks = heads_out.flat_map(|(head, out)| {
        let blocks = out.chunks_mut((block * e).max(1)).enumerate();
        blocks.map(move |(index, out)| Task {
            head,
            first: index * block,
            out,
        })
    });
    each(tasks.collect(), |task: Task<'_>| {
        let rows = task.out.len() / e;
        let q = &q[(task.head * queries + task.first) * d..][..rows * d];
        let q: Vec<f32> = q.iter().map(|q| q * scale).collect();
        let k = &k[task.head * keys * d..][..keys * d];
        let v = &v[task.head * keys * e..][..keys * e];
        let mut scores = vec![0.0; rows * keys];
        let (left, right) = (Matrix::rows(&q, d), Matrix::columns(k, d));
        gemm(
            [rows, keys, d],
            (&mut scores, keys),
            left,
            right,
            Into::Replace,
            On::Caller,
        );
        let mut sums = Vec::with_capacity(rows);
        for (row, scores) in scores.chunks_mut(keys.max(1)).enumerate() {
            let query = task.first + row;
            if let Some(mask) = &mask {
                mask.add(scores, [task.head / heads, task.head % heads, query]);
            }
            if op.causal {
                let visible = (query + 1).min(keys);
                scores[visible..].fill(f32::NEG_INFINITY);
            }
            sums.push(exponentials(scores));
        }
        let (left, right) = (Matrix::rows(&scores, keys), Matrix::rows(v, e));
        gemm(
            [rows, e, keys],
            (task.out, e),
            left,
            right,
            Into::Replace,
            On::Caller,
        );
        for (out, sum) in task.out.chunks_exact_mut(e).zip(sums) {
            out.iter_mut().for_each(|out| *out /= sum);
        }
    });
    out
}

/// A mask of truth values or floats as floats to add.
fn mask(value: &Value) -> Mask {
    let added = match &value.data {
        Data::Owned(_) | Data::Mapped(_) => value.floats().to_vec(),
        Data::Wide(values) => match &**values {
            Values::Bool(allowed) => {
                let added = |&allowed: &bool| if allowed { 0.0 } else { f32::NEG_INFINITY };
                allowed.iter().map(added).collect()
            }
            Values::Int(_) | Values::Float(_) => panic!("inferred as bool or a narrow float"),
        },
    };
    let mut strides = [0; 4];
    let (mut stride, missing) = (1, 4 - value.shape.len());
    for (axis, &extent) in value.shape.iter().enumerate().rev() {
        strides[axis + missing] = if extent == 1 { 0 } else { stride };
        stride *= extent;
    }
    Mask { added, strides }
}

impl Mask {
    fn add(&self, scores: &mut [f32], row: [usize; 3]) {
        let first: usize = row
            .iter()
            .zip(self.strides)
            .map(|(i, stride)| i * stride)
            .sum();
        match self.strides[3] {
            0 => {
                let added = self.added[first];
                scores.iter_mut().for_each(|score| *score += added);
            }
            _ => {
                let added = &self.added[first..];
                scores
                    .iter_mut()
                    .zip(added)
                    .for_each(|(score, added)| *score += added);
            }
        }
    }
}
