//! The operator [`Attention`].

use crate::graph::{TensorType, Value};
use crate::ops::attention_scores::{Scores, infer_scores};
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse, RuleError};
use crate::ops::shape::{each_index, exact_shape, one_float, rank};
use crate::ops::softmax::softmax_row;
use crate::ops::{
    AttentionGradient, AttentionLogSum, Class, Exp, Matmul, Operator, Trilu, Violation,
};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = softmax(scale · q · kᵀ + mask) · v` over the keys. Where a truth mask is false the
/// score is −∞, and so it is for keys `j > i` of query `i` when `causal`. A query without any key
/// left gives NaN; without any key at all (`keys = 0`), 0.
///
/// # Operands
/// `q` `[batch, heads, queries, d]`, `k` `[batch, heads, keys, d]`, `v` `[batch, heads, keys, e]`,
/// optional `mask` that stretches to `[batch, heads, queries, keys]`: truth values (true = may
/// attend) or floats (added to the scores).
///
/// # Result
/// `[batch, heads, queries, e]` in the element type of `q`.
///
/// # Constraints
/// * C1: `q`, `k`, `v` have one floating-point element type; `mask` has that or is bool.
/// * C2: `q`, `k` and `v` have four axes.
/// * C3: `k` has the batch, the heads and the `d` of `q`.
/// * C4: `v` has the batch, the heads and the keys of `k`.
/// * C5: `mask` stretches to `[batch, heads, queries, keys]`.
///
/// # Gradient
/// With `p` the softmax: `dv = pᵀ · dr`, `dp = dr · vᵀ`, `ds = p · (dp − Σ_keys dp · p)`,
/// `dq = scale · ds · k`, `dk = scale · dsᵀ · q`: see [`crate::ops::AttentionGradient`]. A float
/// mask gets `ds` summed over what it stretched along.
///
/// # Source
/// Vaswani et al. 2017 (arXiv 1706.03762), eq. 1; PyTorch `scaled_dot_product_attention`, whose
/// causal mask is aligned at the first key too.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Multiplies the scores; commonly `1 / sqrt(d)`.
    pub scale: f64,
    /// Whether query `i` sees the keys `j ≤ i` only.
    pub causal: bool,
}

attributes!(Attention { scale, causal });

impl Attention {
    /// The gradient of a float mask, for which the scores have to lie in memory.
    fn mask_gradient(
        &self,
        at: &mut Reverse<'_>,
        mask: Value,
        log_sum: Value,
    ) -> Result<Value, RuleError> {
        let (dtype, wide) = (at.ty(mask).dtype, at.ty(log_sum).dtype);
        let wide = |at: &mut Reverse<'_>, value: Value| at.cast(value, wide);
        let [q, k, v] = [0, 1, 2].map(|number| wide(at, at.operand(number)));
        let (q, k, v) = (q?, k?, v?);
        let (mask, r, dr) = (
            wide(at, mask)?,
            wide(at, at.result)?,
            wide(at, at.cotangent)?,
        );
        let (turned_k, turned_v) = (at.transposed(k)?, at.transposed(v)?);
        let scores = at.push(Matmul, &[q, turned_k])?;
        let scores = at.scaled(scores, self.scale)?;
        let scores = at.add(scores, mask)?;
        let rows = at.shape(log_sum);
        let column = at.reshape(log_sum, &[&rows[..], &[1]].concat())?;
        let above = at.sub(scores, column)?;
        let mut weights = at.push(Exp, &[above])?;
        if self.causal {
            let (upper, diagonal) = (false, 0);
            weights = at.push(Trilu { upper, diagonal }, &[weights])?;
        }
        let dweights = at.push(Matmul, &[dr, turned_v])?;
        let delta = at.dot(dr, r, &[3], true)?;
        let above = at.sub(dweights, delta)?;
        let dscores = at.mul(weights, above)?;
        let dmask = at.sum_to(dscores, mask)?;
        at.cast(dmask, dtype)
    }
}

impl Operator for Attention {
    const NAME: &'static str = "attention";
    const OPERANDS: (usize, usize) = (3, 4);
    const CLASS: Class = Class::Attention;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = one_float("C1", &operands[..3])?;
        let v = &operands[2];
        rank("C2", v, 4)?;
        let scores = infer_scores(operands[0], operands[1], operands.get(3).copied())?;
        let [batch, heads, queries, keys] = scores;
        let e = v.shape[3].clone();
        exact_shape("C4", v, &[batch.clone(), heads.clone(), keys, e.clone()])?;
        let shape = vec![batch, heads, queries, e];
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let scores = Scores::new(operands[0], operands[1], operands.get(3), self.scale);
        let (v, keys) = (operands[2].floats(), operands[1].shape[2]);
        let e = result.shape[3];
        let mut values = Vec::with_capacity(result.elements());
        each_index(&result.shape[..3], |row| {
            let head = row[0] * result.shape[1] + row[1];
            let mut weights = scores.row(row, self.causal);
            softmax_row(&mut weights);
            for column in 0..e {
                let weighted = |(key, weight)| weight * v[(head * keys + key) * e + column];
                values.push(weights.iter().enumerate().map(weighted).sum());
            }
        });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (scale, causal) = (self.scale, self.causal);
        let [q, k, v] = [0, 1, 2].map(|number| at.operand(number));
        let mask: Vec<Value> = (3..at.operands())
            .map(|number| at.operand(number))
            .collect();
        let scored = [&[q, k][..], &mask].concat();
        let log_sum = at.push(AttentionLogSum { scale, causal }, &scored)?;
        let read = [&[q, k, v, log_sum, at.result, at.cotangent][..], &mask].concat();
        let all = at.push(AttentionGradient { scale, causal }, &read)?;
        let (queries, keys) = (at.shape(q)[2], at.shape(k)[2]);
        let mut gradients = Vec::with_capacity(4);
        for (number, start) in [0, queries, queries + keys].into_iter().enumerate() {
            gradients.push(at.when(number, |at| {
                let shape = at.shape(at.operand(number));
                let rows = at.slice(all, 2, start, shape[2])?;
                at.slice(rows, 3, 0, shape[3])
            })?);
        }
        if let Some(&mask) = mask.first() {
            gradients.push(at.when(3, |at| self.mask_gradient(at, mask, log_sum))?);
        }
        Ok(gradients)
    }

    /// Two products per score and output, and the five operations of a softmax. A causal mask
    /// saves nothing here.
    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        let (q, k, v) = (&operands[0].shape, &operands[1].shape, &operands[2].shape);
        let scores = q[0].mul(&q[1]).mul(&q[2]).mul(&k[2]);
        let each = q[3].add(&v[3]).mul(&Dim::from(2)).add(&Dim::from(5));
        scores.mul(&each)
    }
}
