//! Random numbers of one picture.
//!
//! Takes: a seed and the number of a picture.
//! Gives: a sequence of draws that depends on nothing else, so that a picture is the same whatever
//! is rendered before it.
//! Never: reads a clock or the system's randomness.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) struct Draws(u64);

/// The increment of SplitMix64: the golden ratio in 64 bits, made odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Draws {
    /// Starts the sequence of picture `index`.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut of_seed = Self(seed);
        let mut of_picture = Self(of_seed.bits() ^ index);
        Self(of_picture.bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Draws uniformly from `low..high`.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits are what an f32 holds exactly.
        let unit = (self.bits() >> 40) as f32 / (1u32 << 24) as f32;
        low + (high - low) * unit
    }

    /// Draws one of `count` numbers from 0.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        (self.bits() % count as u64) as usize
    }

    /// Returns true with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.uniform(0.0, 1.0) < p
    }
}
