//! The online softmax of attention, on scores that lie transposed: lanes are queries.
//!
//! Takes a block of scores after the other, with the running maximum and sum of every query, and
//! turns it into weights for the next matrix product: Milakov and Gimelshein 2018
//! (arXiv 1805.02867), algorithm 3, with powers of 2. Masks are the caller's: a score of minus
//! infinity has no weight.
#![allow(
    unsafe_code,
    reason = "panels are addressed by pointers, checked once per call"
)]

use super::machine::{Kernel, Machine};
use super::transpose::LANES_MOST;
use super::wide::Wide;

/// The most vectors in a row of a panel.
const VECTORS_MOST: usize = 4;

/// The running softmax of a panel of queries, each slice [`Machine::columns`] long.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    /// The largest score so far; minus infinity before the first.
    pub(crate) most: &'a mut [f32],
    /// The sum of the weights relative to `most`; 0 before the first.
    pub(crate) sum: &'a mut [f32],
}

/// Replaces the `scores` `[keys, columns]` by their weights `e^(scale · (score − most))`, updates
/// `running`, and multiplies `acc` `[rows, columns]`, the weighted sum so far, by what the
/// maximum's change leaves of it; `acc` is empty before the first block. `scale` is not negative.
///
/// # Panics
/// When a slice is not a whole number of rows, `running` is not one, or `scale` is negative:
/// callers computed them.
pub(crate) fn step(
    machine: Machine,
    scores: &mut [f32],
    scale: f32,
    running: Running<'_>,
    acc: &mut [f32],
) {
    assert!(scale >= 0.0, "the largest score has the largest weight");
    let scale = (f64::from(scale) * std::f64::consts::LOG2_E) as f32;
    let Running { most, sum } = running;
    machine.run(Step {
        scores,
        scale,
        most,
        sum,
        acc,
    });
}

/// Divides the weighted sums `acc` `[rows, columns]` by the `sum` of the weights. A query without
/// any weight becomes NaN, as its softmax is.
///
/// # Panics
/// As [`step`].
pub(crate) fn finish(machine: Machine, acc: &mut [f32], sum: &[f32]) {
    assert_eq!(sum.len(), machine.columns(), "one sum per query");
    let mut factors = [0.0; VECTORS_MOST * LANES_MOST];
    for (factor, sum) in factors.iter_mut().zip(sum) {
        *factor = 1.0 / sum;
    }
    machine.run(Scale {
        rows: acc,
        factors: &factors[..sum.len()],
    });
}

struct Step<'a> {
    scores: &'a mut [f32],
    scale: f32,
    most: &'a mut [f32],
    sum: &'a mut [f32],
    acc: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        const { assert!(W::VECTORS <= VECTORS_MOST) };
        let (lanes, width) = (W::F32_LANES, W::VECTORS * W::F32_LANES);
        assert!(
            self.most.len() == width && self.sum.len() == width,
            "one maximum and one sum per query"
        );
        assert!(
            self.scores.len().is_multiple_of(width),
            "a row of scores is short"
        );
        let keys = self.scores.len() / width;
        let mut factors = [1.0; VECTORS_MOST * LANES_MOST];
        let mut changed = false;
        for first in (0..width).step_by(lanes) {
            let scores = self.scores.as_mut_ptr().wrapping_add(first);
            // SAFETY: `keys` rows of `width` scores hold a vector at `first` each, as the other
            // slices of one row do.
            unsafe {
                let most = self.most.as_mut_ptr().wrapping_add(first);
                let before = wide.load(most);
                let now = largest(wide, scores, [keys, width], before);
                wide.store(most, now);
                // A query without any score yet has no maximum to be relative to.
                let none = wide.equal_f32s(now, wide.splat_f32s(f32::NEG_INFINITY));
                let base = wide.select_f32s(none, wide.splat_f32s(0.0), now);
                let scale = wide.splat_f32s(self.scale);
                let factor = wide.exp2(wide.mul_f32s(scale, wide.sub_f32s(before, base)));
                wide.store(factors.as_mut_ptr().wrapping_add(first), factor);
                let sum = self.sum.as_mut_ptr().wrapping_add(first);
                let start = wide.mul_f32s(wide.load(sum), factor);
                let total = weigh(wide, scores, [keys, width], [scale, base, start]);
                wide.store(sum, total);
            }
            let lanes = &factors[first..][..lanes];
            changed |= lanes.iter().any(|&factor| factor != 1.0);
        }
        if changed {
            let scale = Scale {
                rows: self.acc,
                factors: &factors[..width],
            };
            scale.run(wide);
        }
    }
}

/// The largest of `before` and the scores of one vector of queries; NaN counts or does not.
///
/// # Safety
/// `scores` is valid for a vector at every multiple of `width` below `keys · width`.
// SAFETY: the caller's promise.
#[inline(always)]
unsafe fn largest<W: Wide>(
    wide: W,
    scores: *const f32,
    [keys, width]: [usize; 2],
    before: W::f32s,
) -> W::f32s {
    // Independent chains, because a maximum takes several cycles.
    let mut most = [before; 4];
    for key in (0..keys).step_by(4) {
        for (chain, most) in most.iter_mut().enumerate() {
            let place = (key + chain).min(keys - 1) * width;
            // SAFETY: the caller's promise.
            let score = unsafe { wide.load(scores.wrapping_add(place)) };
            *most = wide.max_f32s(score, *most);
        }
    }
    let [a, b, c, d] = most;
    wide.max_f32s(wide.max_f32s(a, b), wide.max_f32s(c, d))
}

/// Replaces the scores of one vector of queries by `2^(scale · (score − base))`; gives `start` plus
/// their sum.
///
/// # Safety
/// As [`largest`], for writing.
// SAFETY: the caller's promise.
#[inline(always)]
unsafe fn weigh<W: Wide>(
    wide: W,
    scores: *mut f32,
    [keys, width]: [usize; 2],
    [scale, base, start]: [W::f32s; 3],
) -> W::f32s {
    let mut sum = wide.splat_f32s(0.0);
    for key in 0..keys {
        let place = scores.wrapping_add(key * width);
        // SAFETY: the caller's promise.
        unsafe {
            let weight = wide.exp2(wide.mul_f32s(scale, wide.sub_f32s(wide.load(place), base)));
            wide.store(place, weight);
            sum = wide.add_f32s(sum, weight);
        }
    }
    wide.add_f32s(start, sum)
}

/// Multiplies every row by the factors.
struct Scale<'a> {
    rows: &'a mut [f32],
    factors: &'a [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let width = self.factors.len();
        assert!(
            self.rows.len().is_multiple_of(width),
            "a row of sums is short"
        );
        let (factors, _) = W::as_simd_f32s(self.factors);
        let (vectors, _) = W::as_mut_simd_f32s(self.rows);
        for row in vectors.chunks_exact_mut(factors.len()) {
            for (vector, &factor) in row.iter_mut().zip(factors) {
                *vector = wide.mul_f32s(*vector, factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::mma::{Acc, Left, Right, Start, mma};
    use crate::cpu::kernel::testing::normals;

    /// Attention of one panel of queries over `keys` keys in blocks of `block`, against f64;
    /// `score` changes the scores, which are normal.
    fn check(
        machine: Machine,
        keys: usize,
        block: usize,
        score: impl Fn(usize, usize, f32) -> f32,
    ) {
        let (width, height) = (machine.columns(), machine.rows());
        let scale = 0.7f32;
        let mut scores = normals(keys * width, 8);
        for (at, value) in scores.iter_mut().enumerate() {
            *value = score(at / width, at % width, *value * 3.0);
        }
        let values = normals(keys * height, 9);
        let (mut most, mut sum) = (vec![f32::NEG_INFINITY; width], vec![0.0; width]);
        let mut acc = vec![0.0; height * width];
        let mut weights = scores.clone();
        for (weights, values) in weights
            .chunks_mut(block * width)
            .zip(values.chunks(block * height))
        {
            let running = Running {
                most: &mut most,
                sum: &mut sum,
            };
            step(machine, weights, scale, running, &mut acc);
            let depth = weights.len() / width;
            let acc = Acc {
                data: &mut acc,
                row_stride: width,
                panel_stride: width,
            };
            let left = Left {
                data: values,
                height,
                panel_stride: 0,
            };
            let right = Right {
                data: weights,
                panel_stride: 0,
            };
            mma(
                machine,
                acc,
                left,
                right,
                [height, width, depth],
                Start::Load,
            );
        }
        finish(machine, &mut acc, &sum);
        for query in 0..width {
            let line =
                (0..keys).map(|key| f64::from(scale) * f64::from(scores[key * width + query]));
            let line: Vec<f64> = line.collect();
            let most = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = line.iter().map(|x| (x - most).exp()).collect();
            let total: f64 = weights.iter().sum();
            for row in 0..height {
                let terms = weights.iter().zip(values[row..].iter().step_by(height));
                let wanted: f64 = terms.map(|(w, &v)| w * f64::from(v)).sum::<f64>() / total;
                let found = f64::from(acc[row * width + query]);
                let same = (found - wanted).abs() < 2e-6 || found.is_nan() && wanted.is_nan();
                assert!(
                    same,
                    "{} {keys}: {found} for {wanted} at {query}, {row}",
                    machine.name()
                );
            }
        }
    }

    #[test]
    fn attention_in_blocks() {
        for machine in Machine::available() {
            for (keys, block) in [(1, 1), (3, 2), (40, 40), (77, 16), (300, 64)] {
                check(machine, keys, block, |_, _, score| score);
            }
            // Maxima that grow, that do not, and that would overflow alone.
            check(machine, 50, 7, |key, _, score| score + 4.0 * key as f32);
            check(machine, 50, 7, |key, _, score| score - 4.0 * key as f32);
            check(machine, 50, 7, |_, query, score| {
                score + 1000.0 * query as f32
            });
        }
    }

    #[test]
    fn masked_keys_have_no_weight_and_masked_queries_are_not_numbers() {
        let masked = f32::NEG_INFINITY;
        for machine in Machine::available() {
            let causal = |key, query, score| if key > query { masked } else { score };
            check(machine, machine.columns(), 5, causal);
            // The first blocks hold nothing for some queries.
            let late = |key, query, score| if key < 3 * query { masked } else { score };
            check(machine, 40, 5, late);
            check(
                machine,
                9,
                4,
                |_, query, score| if query % 2 == 0 { masked } else { score },
            );
            check(machine, 9, 4, |key, query, score| {
                if [key, query] == [6, 1] {
                    f32::INFINITY
                } else {
                    score
                }
            });
            check(machine, 9, 4, |key, query, score| {
                if [key, query] == [2, 3] {
                    f32::NAN
                } else {
                    score
                }
            });
        }
    }
}
