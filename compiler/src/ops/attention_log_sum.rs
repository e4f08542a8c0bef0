//! The operator [`AttentionLogSum`].

use crate::graph::TensorType;
use crate::ops::attention_scores::{Scores, infer_scores};
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{each_index, one_float};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result_i = log Σ_j e^{s_ij}` over the keys `j`, with the scores `s = scale · q · kᵀ + mask`
/// that [`crate::ops::Attention`] has: what makes its weights from scores, `p = e^{s − result}`,
/// without a second look at the others of a row. A query without any key left gives −∞.
///
/// # Operands
/// `q` `[batch, heads, queries, d]`, `k` `[batch, heads, keys, d]`, optional `mask` that stretches
/// to `[batch, heads, queries, keys]`: truth values (true = may attend) or floats (added to the
/// scores).
///
/// # Result
/// `[batch, heads, queries]` in the type in which sums over elements of `q` are kept: f32, or f64
/// for f64.
///
/// # Constraints
/// * C1: `q` and `k` have one floating-point element type; `mask` has that or is bool.
/// * C2: `q` and `k` have four axes.
/// * C3: `k` has the batch, the heads and the `d` of `q`.
/// * C5: `mask` stretches to `[batch, heads, queries, keys]`.
///
/// # Gradient
/// With `p = e^{s − result}`: `ds = dr · p`, `dq = scale · ds · k`, `dk = scale · dsᵀ · q`: that
/// of [`crate::ops::Attention`] whose `dp − Σ_keys dp · p` is `dr`.
///
/// # Source
/// Dao et al. 2022 (arXiv 2205.14135), section 3.1, and Dao 2023 (arXiv 2307.08691), section 3.1.1,
/// the statistic L of algorithm 1.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionLogSum {
    /// Multiplies the scores; commonly `1 / sqrt(d)`.
    pub scale: f64,
    /// Whether query `i` sees the keys `j ≤ i` only.
    pub causal: bool,
}

attributes!(AttentionLogSum { scale, causal });

impl Operator for AttentionLogSum {
    const NAME: &'static str = "attention_log_sum";
    const OPERANDS: (usize, usize) = (2, 3);
    const CLASS: Class = Class::Attention;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let dtype = one_float("C1", &operands[..2])?.accumulator();
        let scores = infer_scores(operands[0], operands[1], operands.get(2).copied())?;
        let shape = scores[..3].to_vec();
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let scores = Scores::new(operands[0], operands[1], operands.get(2), self.scale);
        let mut values = Vec::with_capacity(result.elements());
        each_index(&result.shape, |row| {
            values.push(log_sum(&scores.row(row, self.causal)));
        });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unsupported("attention is differentiated once")
    }

    /// Two products per score, and four operations for the sum of its exponentials.
    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        let (q, k) = (&operands[0].shape, &operands[1].shape);
        let each = q[3].mul(&Dim::from(2)).add(&Dim::from(4));
        result.elements().mul(&k[2]).mul(&each)
    }
}

/// `log Σ e^x`; minus infinity of nothing but minus infinities.
fn log_sum(row: &[f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Relative to an infinity every difference is not a number.
    let base = if most.is_finite() { most } else { 0.0 };
    base + row.iter().map(|x| (x - base).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::Op;

    fn check(constraint: Option<&str>, operands: &[(DType, &[i64])]) {
        let ty = |&(dtype, shape): &(DType, &[i64])| TensorType::new(dtype, shape.iter().copied());
        let operands: Vec<TensorType> = operands.iter().map(ty).collect();
        let op = AttentionLogSum {
            scale: 1.0,
            causal: false,
        };
        let found = Op::from(op)
            .infer(&operands)
            .err()
            .map(|error| error.constraint);
        assert_eq!(found, constraint, "{operands:?}");
    }

    #[test]
    fn constraints() {
        use DType::{Bool, F16, F32, I32};
        let (q, k) = ((F32, &[2, 3, 5, 8][..]), (F32, &[2, 3, 7, 8][..]));
        check(None, &[q, k]);
        check(None, &[q, k, (Bool, &[5, 1])]);
        check(None, &[q, k, (F32, &[7])]);
        check(Some("C1"), &[(I32, q.1), (I32, k.1)]);
        check(Some("C1"), &[q, (F16, k.1)]);
        check(Some("C1"), &[q, k, (F16, &[7])]);
        check(Some("C2"), &[(F32, &[3, 5, 8]), k]);
        check(Some("C2"), &[q, (F32, &[3, 7, 8])]);
        check(Some("C3"), &[q, (F32, &[2, 3, 7, 9])]);
        check(Some("C3"), &[q, (F32, &[2, 1, 7, 8])]);
        check(Some("C5"), &[q, k, (Bool, &[6])]);
        check(Some("C5"), &[q, k, (Bool, &[1, 2, 3, 5, 7])]);
    }

    #[test]
    fn sums_of_narrow_floats_are_wide() {
        let op = AttentionLogSum {
            scale: 1.0,
            causal: true,
        };
        for (dtype, wanted) in [
            (DType::F16, DType::F32),
            (DType::BF16, DType::F32),
            (DType::F32, DType::F32),
            (DType::F64, DType::F64),
        ] {
            let operands = [[1, 2, 3, 4], [1, 2, 5, 4]].map(|shape| TensorType::new(dtype, shape));
            let found = Op::from(op.clone())
                .infer(&operands)
                .expect("it is well typed");
            assert_eq!(found, TensorType::new(wanted, [1, 2, 3]));
        }
    }

    #[test]
    fn sums_of_large_small_and_no_scores() {
        let check = |row: &[f64], wanted: f64| {
            let found = log_sum(row);
            assert!(
                (found - wanted).abs() < 1e-12 || found == wanted,
                "{row:?}: {found} for {wanted}"
            );
        };
        check(&[1e4, 1e4], 1e4 + 2f64.ln());
        check(&[-1e4, -1e4, f64::NEG_INFINITY], -1e4 + 2f64.ln());
        check(&[f64::NEG_INFINITY], f64::NEG_INFINITY);
        check(&[], f64::NEG_INFINITY);
        assert!(log_sum(&[f64::NAN, 1.0]).is_nan());
    }
}
