//! Weights of attention from the logarithms of their sums, and the gradient of its scores, on
//! scores that lie with keys along the lanes.
//!
//! Takes a panel of scores, and one of products of values and gradients, with two numbers per
//! query; each score takes one power of two: Dao 2023 (arXiv 2307.08691), algorithm 2, lines 11 to
//! 14. Masks are the caller's: a score of minus infinity has no weight.

use super::machine::{Kernel, Machine};
use super::wide::Wide;

/// What is known of each query of a panel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// The logarithm of the sum of its weights before they were divided by it.
    pub(crate) log_sums: &'a [f32],
    /// Its result times the gradient of that, summed.
    pub(crate) products: &'a [f32],
}

/// Replaces the scores `[queries, columns]` by `w = e^(scales[0] · score − log_sum)`, and the
/// changes, which lie alike, by `scales[1] · w · (change − product)`.
///
/// # Panics
/// When a slice is not a row of [`Machine::columns`] per query: callers computed them.
pub(crate) fn weigh(
    machine: Machine,
    [scores, changes]: [&mut [f32]; 2],
    queries: Queries<'_>,
    scales: [f32; 2],
) {
    machine.run(Weigh {
        scores,
        changes,
        queries,
        scales,
    });
}

struct Weigh<'a> {
    scores: &'a mut [f32],
    changes: &'a mut [f32],
    queries: Queries<'a>,
    scales: [f32; 2],
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let width = W::VECTORS * W::F32_LANES;
        let Queries { log_sums, products } = self.queries;
        let count = log_sums.len();
        let floats = [self.scores.len(), self.changes.len()];
        assert!(
            products.len() == count && floats == [count * width; 2],
            "one row per query"
        );
        let log2_e = std::f64::consts::LOG2_E;
        let before = wide.splat_f32s((f64::from(self.scales[0]) * log2_e) as f32);
        let after = wide.splat_f32s(self.scales[1]);
        let (scores, _) = W::as_mut_simd_f32s(self.scores);
        let (changes, _) = W::as_mut_simd_f32s(self.changes);
        let rows = scores
            .chunks_exact_mut(W::VECTORS)
            .zip(changes.chunks_exact_mut(W::VECTORS));
        for ((scores, changes), (&log_sum, &product)) in rows.zip(log_sums.iter().zip(products)) {
            let base = match log_sum == f32::NEG_INFINITY {
                // Its scores are minus infinity, or hidden by rounding alone.
                true => f32::NEG_INFINITY,
                false => -(f64::from(log_sum) * log2_e) as f32,
            };
            let (base, product) = (wide.splat_f32s(base), wide.splat_f32s(product));
            for (score, change) in scores.iter_mut().zip(changes) {
                let weight = wide.exp2(wide.fma(*score, before, base));
                *score = weight;
                let change_of = wide.sub_f32s(*change, product);
                *change = wide.mul_f32s(wide.mul_f32s(weight, after), change_of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::testing::normals;

    #[test]
    fn weights_and_changes() {
        for machine in Machine::available() {
            let (count, width) = (7, machine.columns());
            let mut scores = normals(count * width, 1);
            let mut changes = normals(count * width, 2);
            scores[3] = f32::NEG_INFINITY;
            let mut log_sums: Vec<f32> = normals(count, 3).iter().map(|x| x + 3.0).collect();
            let products = normals(count, 4);
            log_sums[5] = f32::NEG_INFINITY;
            let (s, c) = (scores.clone(), changes.clone());
            let queries = Queries {
                log_sums: &log_sums,
                products: &products,
            };
            weigh(machine, [&mut scores, &mut changes], queries, [0.7, 0.5]);
            for at in 0..count * width {
                let query = at / width;
                let log_sum = f64::from(log_sums[query]);
                let weight = match log_sum == f64::NEG_INFINITY {
                    true => 0.0,
                    false => (f64::from(0.7f32) * f64::from(s[at]) - log_sum).exp(),
                };
                let change = f64::from(c[at]) - f64::from(products[query]);
                let wanted = [weight, 0.5 * weight * change];
                for (found, wanted) in [scores[at], changes[at]].into_iter().zip(wanted) {
                    let close = (f64::from(found) - wanted).abs() <= 1e-6 * wanted.abs();
                    assert!(close, "{}: {found} for {wanted} at {at}", machine.name());
                }
            }
        }
    }
}
