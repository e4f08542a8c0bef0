//! Random numbers of a training: a pure function of the seed, the update, the sample and a purpose.
//!
//! Takes a seed and an address, returns uniform numbers and unit normals. It keeps no state, so a
//! resumed run draws what an unbroken one would, whatever was drawn before. Source: Philox 4×32-10
//! with the seed as its key and the address as its counter.

use crate::noise::philox;

/// What a number is drawn for. Numbers of two purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the samples.
    Order,
    /// The order of batches of pictures of different sizes.
    Bucket,
    /// Another sample in place of one that cannot be read.
    Replacement,
    /// Which of several captions a sample has.
    Caption,
    /// Where a picture is cropped.
    Crop,
    /// Whether a picture is mirrored.
    Flip,
    /// The latents of a picture, of their posterior.
    Posterior,
    /// Whether a caption is dropped.
    Dropout,
    /// The noise that is added to latents.
    Noise,
    /// The numbers that a method draws for each sample, by their place among them.
    Method(u16),
    /// Parameters that begin at random.
    Parameters,
}

impl Purpose {
    /// The purpose's own range of counters.
    fn code(self) -> u32 {
        /// The codes from here on are those of [`Purpose::Method`].
        const METHOD: u32 = 1 << 16;
        match self {
            Purpose::Order => 1,
            Purpose::Replacement => 2,
            Purpose::Caption => 3,
            Purpose::Crop => 4,
            Purpose::Flip => 5,
            Purpose::Posterior => 6,
            Purpose::Dropout => 7,
            Purpose::Noise => 8,
            Purpose::Parameters => 9,
            Purpose::Bucket => 10,
            Purpose::Method(place) => METHOD + u32::from(place),
        }
    }
}

/// Where in a training a number is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The number of updates before it.
    pub step: u32,
    /// The sample within the update; of the second micro-batch, the first is `batch`.
    pub sample: u32,
}

/// The random numbers of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Draws {
        Draws { seed }
    }

    /// Uniform numbers in 0..1, without 1, of 53 bits each.
    pub fn uniforms(self, purpose: Purpose, at: Address) -> impl Iterator<Item = f64> {
        /// 2⁻⁵³, which maps 53 bits to the unit interval.
        const TO_UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;
        self.blocks(purpose, at).map(|[high, low, _, _]| {
            let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
            bits as f64 * TO_UNIT
        })
    }

    /// Unit normals.
    pub fn normals(self, purpose: Purpose, at: Address) -> impl Iterator<Item = f32> {
        let blocks = self.blocks(purpose, at);
        blocks.map(|[x, y, _, _]| philox::normal(x, y))
    }

    fn blocks(self, purpose: Purpose, at: Address) -> impl Iterator<Item = [u32; 4]> {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let counter = move |index| [index, purpose.code(), at.sample, at.step];
        (0..=u32::MAX).map(move |index| philox::block(counter(index), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u32, sample: u32) -> Address {
        Address { step, sample }
    }

    #[test]
    fn every_part_of_an_address_matters() {
        let first = |seed, purpose, at| Draws::new(seed).uniforms(purpose, at).next();
        let own = first(7, Purpose::Crop, at(3, 2));
        assert_eq!(own, first(7, Purpose::Crop, at(3, 2)));
        assert_ne!(own, first(8, Purpose::Crop, at(3, 2)));
        assert_ne!(own, first(7, Purpose::Flip, at(3, 2)));
        assert_ne!(own, first(7, Purpose::Crop, at(4, 2)));
        assert_ne!(own, first(7, Purpose::Crop, at(3, 3)));
        assert_ne!(
            first(7, Purpose::Method(0), at(0, 0)),
            first(7, Purpose::Method(1), at(0, 0))
        );
    }

    #[test]
    fn numbers_have_the_moments_of_their_distribution() {
        const COUNT: usize = 100_000;
        let draws = Draws::new(1);
        let uniforms: Vec<f64> = draws
            .uniforms(Purpose::Crop, at(0, 0))
            .take(COUNT)
            .collect();
        let normals = draws.normals(Purpose::Noise, at(0, 0)).take(COUNT);
        let normals: Vec<f64> = normals.map(f64::from).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / COUNT as f64;
        let squares = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>() / COUNT as f64;
        assert!(uniforms.iter().all(|u| (0.0..1.0).contains(u)));
        // Four standard errors of the mean of 100,000 numbers.
        assert!((mean(&uniforms) - 0.5).abs() < 4.0 * 0.289 / 316.0);
        assert!(mean(&normals).abs() < 4.0 / 316.0);
        assert!((squares(&normals) - 1.0).abs() < 4.0 * 1.41 / 316.0);
    }
}
