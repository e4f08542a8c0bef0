//! Counter-based normals: Philox 4×32 with 10 rounds and one Box–Muller value for each counter.
//!
//! Takes a seed, the number of the draw and a count; gives that many unit normals. Never keeps
//! state. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", and
//! spec 4.12 for the counter's layout and the normal.

use std::f64::consts::TAU;

/// Multipliers of words 0 and 2 (Salmon et al. 2011, table 2, Philox 4×32).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Key increments of each round: the golden ratio and √3 − 1 (Salmon et al. 2011, section 4.2).
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Rounds of the variant that CUDA uses.
const ROUNDS: usize = 10;
/// 2⁻³², which maps a word to the unit interval.
const WORD_TO_UNIT: f64 = 1.0 / 4_294_967_296.0;

/// The first `count` normals of draw `offset` of the picture with this seed (spec 4.12).
pub(super) fn normals(seed: u64, offset: u32, count: usize) -> impl Iterator<Item = f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    (0u32..=u32::MAX).take(count).map(move |index| {
        let [x, y, _, _] = block([offset, 0, index, 0], key);
        normal(x, y)
    })
}

/// One block: ten rounds of the bijection under a key that advances each round.
pub(crate) fn block(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let product = |word, multiplier| u64::from(word) * u64::from(multiplier);
        let low = product(counter[0], MULTIPLIERS[0]);
        let high = product(counter[2], MULTIPLIERS[1]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [
            key[0].wrapping_add(KEY_STEPS[0]),
            key[1].wrapping_add(KEY_STEPS[1]),
        ];
    }
    counter
}

/// √(−2 ln u)·sin v with u = (x + ½)·2⁻³² and v = (y + ½)·2⁻³²·2π, in f64.
pub(crate) fn normal(x: u32, y: u32) -> f32 {
    let u = (f64::from(x) + 0.5) * WORD_TO_UNIT;
    let v = (f64::from(y) + 0.5) * WORD_TO_UNIT * TAU;
    (libm::sqrt(-2.0 * libm::log(u)) * libm::sin(v)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn blocks_equal_the_known_answers() {
        let check = |counter, key, wanted| assert_eq!(block(counter, key), wanted);
        check(
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        );
        check(
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        );
    }

    #[test]
    fn the_ends_of_the_interval_are_finite() {
        for (x, y) in [(0, 0), (0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX)] {
            assert!(normal(x, y).is_finite());
        }
    }
}
