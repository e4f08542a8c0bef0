//! The operator [`AttentionGradient`].

use crate::graph::TensorType;
use crate::ops::attention_scores::{Scores, infer_scores};
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{each_index, exact_shape, one_float, rank};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// What a change of the result `r` of [`crate::ops::Attention`] means for its operands, from the
/// gradient `dr` of a scalar by `r`. With the scores `s = scale · q · kᵀ + mask`,
/// `p = e^{s − log_sum}` and `δ_i = Σ_column dr_i · r_i`:
/// `dv = pᵀ · dr`, `ds = p · (dr · vᵀ − δ)`, `dq = scale · ds · k`, `dk = scale · dsᵀ · q`.
/// A key that a query does not see contributes 0, and so does a query that sees none
/// (`log_sum = −∞`), whatever its row of `r` holds; `dr` is finite there.
///
/// # Operands
/// `q` `[batch, heads, queries, d]`, `k` `[batch, heads, keys, d]`, `v` `[batch, heads, keys, e]`,
/// `log_sum` `[batch, heads, queries]`, the result of [`crate::ops::AttentionLogSum`], `r` and `dr`
/// `[batch, heads, queries, e]`, optional `mask` as in the attention; it gets no gradient.
///
/// # Result
/// `[batch, heads, queries + 2 · keys, max(d, e)]` in the element type of `q`: rows of `dq`, then
/// of `dk`, then of `dv`; columns that one of them lacks are 0. The three are made together,
/// because each needs the same weights, and a node has one result: slices of it are access maps,
/// which cost nothing.
///
/// # Constraints
/// * C1: `q`, `k`, `v`, `r`, `dr` have one floating-point element type; `mask` has that or is bool.
/// * C2: they have four axes.
/// * C3: `k` has the batch, the heads and the `d` of `q`.
/// * C4: `v` has the batch, the heads and the keys of `k`.
/// * C5: `mask` stretches to `[batch, heads, queries, keys]`.
/// * C6: `log_sum` is `[batch, heads, queries]` of f32, or of f64 where `q` is.
/// * C7: `r` and `dr` are `[batch, heads, queries, e]`.
/// * C8: `d` and `e` are equal or known.
///
/// # Gradient
/// None: nothing here differentiates twice.
///
/// # Source
/// Dao et al. 2022 (arXiv 2205.14135), algorithm 4, and Dao 2023 (arXiv 2307.08691), algorithm 2.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradient {
    /// Multiplies the scores; commonly `1 / sqrt(d)`.
    pub scale: f64,
    /// Whether query `i` sees the keys `j ≤ i` only.
    pub causal: bool,
}

attributes!(AttentionGradient { scale, causal });

impl Operator for AttentionGradient {
    const NAME: &'static str = "attention_gradient";
    const OPERANDS: (usize, usize) = (6, 7);
    const CLASS: Class = Class::Attention;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let [q, k, v, log_sum, r, dr] = [0, 1, 2, 3, 4, 5].map(|operand| operands[operand]);
        let dtype = one_float("C1", &[q, k, v, r, dr])?;
        for operand in [v, r, dr] {
            rank("C2", operand, 4)?;
        }
        let [batch, heads, queries, keys] = infer_scores(q, k, operands.get(6).copied())?;
        let (d, e) = (q.shape[3].clone(), v.shape[3].clone());
        let matrix = |rows: &Dim| [batch.clone(), heads.clone(), rows.clone(), e.clone()];
        exact_shape("C4", v, &matrix(&keys))?;
        let sums = [batch.clone(), heads.clone(), queries.clone()];
        exact_shape("C6", log_sum, &sums)?;
        let wide = dtype.accumulator();
        let wanted = format_args!("sums of {wide}");
        Violation::unless(log_sum.dtype == wide, "C6", log_sum, wanted)?;
        exact_shape("C7", r, &matrix(&queries))?;
        exact_shape("C7", dr, &matrix(&queries))?;
        let columns = wider(&d, &e)?;
        let rows = queries.add(&keys.mul(&Dim::from(2)));
        let shape = vec![batch, heads, rows, columns];
        Ok(TensorType { dtype, shape })
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let scores = Scores::new(operands[0], operands[1], operands.get(6), self.scale);
        let [q, k, v, log_sum, r, dr] =
            [0, 1, 2, 3, 4, 5].map(|operand| operands[operand].floats());
        let (d, e) = (operands[0].shape[3], operands[2].shape[3]);
        let (queries, keys) = (operands[0].shape[2], operands[1].shape[2]);
        let (rows, columns) = (result.shape[2], result.shape[3]);
        let mut values = vec![0.0; result.elements()];
        each_index(&operands[0].shape[..3], |row| {
            let head = row[0] * result.shape[1] + row[1];
            let query = head * queries + row[2];
            if log_sum[query] == f64::NEG_INFINITY {
                return;
            }
            let (q, r) = (&q[query * d..][..d], &r[query * e..][..e]);
            let dr = &dr[query * e..][..e];
            let delta = dot(dr, r);
            let out = &mut values[head * rows * columns..][..rows * columns];
            for (key, score) in scores.row(row, self.causal).into_iter().enumerate() {
                if score == f64::NEG_INFINITY {
                    continue;
                }
                let (k, v) = (&k[(head * keys + key) * d..], &v[(head * keys + key) * e..]);
                let weight = (score - log_sum[query]).exp();
                let change = weight * (dot(dr, &v[..e]) - delta) * self.scale;
                let mut add = |row: usize, factor: f64, of: &[f64]| {
                    let out = &mut out[row * columns..][..of.len()];
                    out.iter_mut()
                        .zip(of)
                        .for_each(|(out, of)| *out += factor * of);
                };
                add(row[2], change, &k[..d]);
                add(queries + key, change, q);
                add(queries + keys + key, weight, dr);
            }
        });
        Ok(Values::Float(values))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unsupported("attention is differentiated once")
    }

    /// Five products per score, and six operations for its weight and that one's change.
    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        let (q, k, v) = (&operands[0].shape, &operands[1].shape, &operands[2].shape);
        let scores = q[0].mul(&q[1]).mul(&q[2]).mul(&k[2]);
        let products = q[3].mul(&Dim::from(6)).add(&v[3].mul(&Dim::from(4)));
        scores.mul(&products.add(&Dim::from(6)))
    }
}

/// The larger of two widths, one of which may be a symbol where they are equal.
fn wider(d: &Dim, e: &Dim) -> Result<Dim, Violation> {
    match (d.known(), e.known()) {
        _ if d == e => Ok(d.clone()),
        (Some(known), Some(other)) => Ok(Dim::from(known.max(other))),
        (Some(_) | None, _) => {
            let found = format!("widths {d} and {e}");
            Err(Violation::new("C8", found, "equal or known widths"))
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::{Attention, AttentionLogSum, Op};

    fn infer(operands: &[(DType, &[i64])]) -> Result<TensorType, Violation> {
        let ty = |&(dtype, shape): &(DType, &[i64])| TensorType::new(dtype, shape.iter().copied());
        let operands: Vec<TensorType> = operands.iter().map(ty).collect();
        let op = AttentionGradient {
            scale: 1.0,
            causal: false,
        };
        Op::from(op).infer(&operands)
    }

    /// Operands that fit, but for the one at `place`.
    fn check(constraint: &str, place: usize, other: (DType, &[i64])) {
        let mut operands = good(DType::F32, DType::F32);
        operands[place] = other;
        let found = infer(&operands).err().map(|error| error.constraint);
        assert_eq!(found, Some(constraint), "{operands:?}");
    }

    fn good(dtype: DType, sums: DType) -> Vec<(DType, &'static [i64])> {
        vec![
            (dtype, &[2, 3, 5, 8]),
            (dtype, &[2, 3, 7, 8]),
            (dtype, &[2, 3, 7, 4]),
            (sums, &[2, 3, 5]),
            (dtype, &[2, 3, 5, 4]),
            (dtype, &[2, 3, 5, 4]),
            (DType::Bool, &[5, 1]),
        ]
    }

    #[test]
    fn constraints() {
        use DType::{F16, F32, F64, I32};
        for (dtype, sums) in [(F32, F32), (F16, F32), (F64, F64)] {
            let found = infer(&good(dtype, sums)).expect("it is well typed");
            assert_eq!(found, TensorType::new(dtype, [2, 3, 19, 8]));
        }
        check("C1", 0, (I32, &[2, 3, 5, 8]));
        check("C1", 5, (F16, &[2, 3, 5, 4]));
        check("C1", 6, (F16, &[5, 1]));
        check("C2", 0, (F32, &[3, 5, 8]));
        check("C2", 4, (F32, &[3, 5, 4]));
        check("C3", 1, (F32, &[2, 3, 7, 9]));
        check("C4", 2, (F32, &[2, 3, 6, 4]));
        check("C5", 6, (F32, &[4, 1]));
        check("C6", 3, (F32, &[2, 3, 7]));
        check("C6", 3, (F64, &[2, 3, 5]));
        check("C7", 4, (F32, &[2, 3, 5, 8]));
        check("C7", 5, (F32, &[2, 3, 7, 4]));
    }

    #[test]
    fn widths_may_be_one_symbol() {
        let symbol = Dim::symbol("d");
        let matrix = |rows: i64, width: &Dim| TensorType {
            dtype: DType::F32,
            shape: vec![Dim::from(1), Dim::from(2), Dim::from(rows), width.clone()],
        };
        let infer = |e: &Dim| {
            let op = AttentionGradient {
                scale: 1.0,
                causal: false,
            };
            let sums = TensorType::new(DType::F32, [1, 2, 3]);
            let [q, k] = [3, 5].map(|rows| matrix(rows, &symbol));
            let (v, r) = (matrix(5, e), matrix(3, e));
            Op::from(op).infer(&[q, k, v, sums, r.clone(), r])
        };
        assert_eq!(infer(&symbol), Ok(matrix(13, &symbol)));
        let refused = infer(&Dim::from(4)).expect_err("one width is not known");
        assert_eq!(refused.constraint, "C8");
    }

    /// Numbers between −1 and 1 that repeat late: multiples of an irrational, modulo 2.
    fn numbers(shape: &[usize], seed: f64) -> Array {
        let count = shape.iter().product::<usize>();
        let at = |i: usize| (seed + i as f64 * std::f64::consts::SQRT_2 * 1.7) % 2.0 - 1.0;
        Array {
            shape: shape.to_vec(),
            values: Values::Float((0..count).map(at).collect()),
        }
    }

    fn eval(op: &impl Operator, operands: &[&Array], shape: Vec<usize>) -> Array {
        let extents = Extents {
            dtype: DType::F64,
            shape: shape.clone(),
        };
        let values = op
            .eval(operands, &extents)
            .expect("any data is in its domain");
        Array { shape, values }
    }

    /// The gradient of `Σ attention · dr` for `[batch, heads, queries, keys, d, e]` against
    /// differences of the attention itself; `mask` has no gradient.
    fn differentiate(sizes: [usize; 6], causal: bool, mask: Option<Array>) {
        let [batch, heads, queries, keys, d, e] = sizes;
        let scale = 0.7;
        let mut operands = vec![
            numbers(&[batch, heads, queries, d], 0.1),
            numbers(&[batch, heads, keys, d], 0.2),
            numbers(&[batch, heads, keys, e], 0.3),
        ];
        let dr = numbers(&[batch, heads, queries, e], 0.4);
        let result = dr.shape.clone();
        let attention = |operands: &[Array]| {
            let all: Vec<&Array> = operands.iter().chain(&mask).collect();
            eval(&Attention { scale, causal }, &all, result.clone())
        };
        let r = attention(&operands);
        let read: Vec<&Array> = operands[..2].iter().chain(&mask).collect();
        let sums = result[..3].to_vec();
        let log_sum = eval(&AttentionLogSum { scale, causal }, &read, sums);
        let columns = d.max(e);
        let shape = vec![batch, heads, queries + 2 * keys, columns];
        let mut read: Vec<&Array> = operands.iter().chain([&log_sum, &r, &dr]).collect();
        read.extend(&mask);
        let found = eval(&AttentionGradient { scale, causal }, &read, shape.clone());
        // The scalar; a query that sees no key is not part of it.
        let scalar = |operands: &[Array]| {
            let pairs = attention(operands)
                .floats()
                .to_vec()
                .into_iter()
                .zip(dr.floats());
            let terms = pairs.map(|(r, dr)| r * dr).filter(|term| !term.is_nan());
            terms.sum::<f64>()
        };
        let mut nonzero = 0;
        for (operand, first) in [0, queries, queries + keys].into_iter().enumerate() {
            let (rows, width) = (operands[operand].shape[2], operands[operand].shape[3]);
            for head in 0..batch * heads {
                for place in 0..rows * columns {
                    let (row, column) = (place / columns, place % columns);
                    let out = (head * shape[2] + first + row) * columns + column;
                    let found = found.floats()[out];
                    if column >= width {
                        assert_eq!(found, 0.0);
                        continue;
                    }
                    let at = (head * rows + row) * width + column;
                    let step = 1e-5;
                    let mut side = |step: f64| {
                        let Values::Float(values) = &mut operands[operand].values else {
                            unreachable!("they are numbers");
                        };
                        values[at] += step;
                        let scalar = scalar(&operands);
                        if let Values::Float(values) = &mut operands[operand].values {
                            values[at] -= step;
                        }
                        scalar
                    };
                    let wanted = (side(step) - side(-step)) / (2.0 * step);
                    nonzero += usize::from(wanted != 0.0);
                    let close = (found - wanted).abs() < 1e-8;
                    assert!(close, "{sizes:?}: {found} for {wanted} at {operand}, {at}");
                }
            }
        }
        assert!(
            nonzero > 0 || queries * keys == 0,
            "nothing is differentiated"
        );
    }

    #[test]
    fn gradients_are_those_of_differences() {
        differentiate([2, 2, 3, 4, 3, 2], false, None);
        differentiate([1, 2, 4, 3, 2, 5], true, None);
        differentiate([1, 1, 1, 1, 1, 1], false, None);
        differentiate([1, 1, 3, 1, 2, 2], false, None);
        differentiate([1, 2, 1, 3, 2, 2], true, None);
        differentiate([1, 1, 2, 0, 2, 2], false, None);
        differentiate([1, 2, 3, 4, 2, 2], false, Some(numbers(&[3, 4], 0.5)));
        differentiate([2, 1, 3, 4, 2, 2], true, Some(numbers(&[2, 1, 1, 4], 0.5)));
        let truth = |shape: &[usize], hidden: &[usize]| Array {
            shape: shape.to_vec(),
            values: Values::Bool(
                (0..shape.iter().product())
                    .map(|i| !hidden.contains(&i))
                    .collect(),
            ),
        };
        differentiate([1, 2, 3, 4, 2, 2], false, Some(truth(&[3, 4], &[1, 3, 6])));
        // The second query sees no key.
        differentiate(
            [1, 2, 3, 4, 2, 2],
            false,
            Some(truth(&[3, 4], &[4, 5, 6, 7])),
        );
    }

    #[test]
    fn a_query_without_keys_poisons_nothing() {
        let [q, k, v, r] = [0.1, 0.2, 0.3, 0.4].map(|seed| numbers(&[1, 1, 2, 2], seed));
        let gradient = AttentionGradient {
            scale: 1.0,
            causal: false,
        };
        let log_sum = |second: f64| Array {
            shape: vec![1, 1, 2],
            values: Values::Float(vec![0.5, second]),
        };
        let mask = Array {
            shape: vec![2, 2],
            values: Values::Float(vec![0.0, 0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]),
        };
        let spoiled = |array: &Array| {
            let mut values = array.floats().to_vec();
            values[2..].fill(f64::NAN);
            Array {
                shape: array.shape.clone(),
                values: Values::Float(values),
            }
        };
        let sums = log_sum(f64::NEG_INFINITY);
        let (nan_r, nan_dr) = (spoiled(&r), spoiled(&v));
        let found = eval(
            &gradient,
            &[&q, &k, &v, &sums, &nan_r, &nan_dr, &mask],
            vec![1, 1, 6, 2],
        );
        assert!(found.floats().iter().all(|x| x.is_finite()));
        assert_eq!(found.floats()[2..4], [0.0; 2]);
        let sums = log_sum(0.5);
        let same = eval(
            &gradient,
            &[&q, &k, &v, &sums, &r, &v, &mask],
            vec![1, 1, 6, 2],
        );
        assert_eq!(found, same);
    }
}
