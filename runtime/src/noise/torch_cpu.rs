//! The normals of torch's CPU generator: MT19937 with torch's two ways from words to normals.
//!
//! Takes a seed; gives the values that consecutive `torch.randn(n, generator=g)` calls give, the
//! small ones (n < 16) included. Never restarts: draws follow each other in one stream.
//! Sources: torch's `native/cpu/DistributionTemplates.h` (`normal_fill`) and `core/DistributionsHelper.h`
//! (`normal_distribution`) for the rest; spec 4.12.

use std::f32::consts::TAU as TAU_F32;
use std::f64::consts::TAU;

use super::twister::Twister;

/// Values that torch's vectorised path makes at once; smaller draws take the scalar path.
const FILL_BLOCK: usize = 16;

/// Torch's generator: the twister and the spare value of the scalar path.
#[derive(Debug, Clone)]
pub(super) struct TorchCpu {
    twister: Twister,
    /// Second value of the last scalar pair. It waits through larger draws, as torch's does.
    spare: Option<f64>,
}

impl TorchCpu {
    /// Seeds the twister with the low 32 bits of `seed`, as torch does.
    pub(super) fn new(seed: u64) -> TorchCpu {
        TorchCpu {
            twister: Twister::new(seed as u32),
            spare: None,
        }
    }

    /// The next `count` normals, as one `torch.randn` of `count` values gives them.
    pub(super) fn normals(&mut self, count: usize) -> Vec<f32> {
        if count < FILL_BLOCK {
            (0..count).map(|_| self.scalar() as f32).collect()
        } else {
            self.fill(count)
        }
    }

    /// `normal_fill`: uniforms for all values first, then Box–Muller on each block of 16; a
    /// ragged end is made again, as a whole last block of new uniforms.
    fn fill(&mut self, count: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform_f32()).collect();
        for block in values.chunks_exact_mut(FILL_BLOCK) {
            box_muller(block);
        }
        if !count.is_multiple_of(FILL_BLOCK) {
            let last = &mut values[count - FILL_BLOCK..];
            last.fill_with(|| self.uniform_f32());
            box_muller(last);
        }
        values
    }

    /// `normal_distribution<double>`: Box–Muller on 53-bit uniforms, the sine kept for next time.
    fn scalar(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (turn, height) = (self.uniform_f64(), self.uniform_f64());
        let radius = libm::sqrt(-2.0 * libm::log1p(-height));
        self.spare = Some(radius * libm::sin(TAU * turn));
        radius * libm::cos(TAU * turn)
    }

    /// 24 bits of one word, in [0, 1).
    fn uniform_f32(&mut self) -> f32 {
        (self.twister.word() & 0x00FF_FFFF) as f32 * (1.0 / 16_777_216.0)
    }

    /// 53 bits of two words (the first is the high one), in [0, 1).
    fn uniform_f64(&mut self) -> f64 {
        let (high, low) = (
            u64::from(self.twister.word()),
            u64::from(self.twister.word()),
        );
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }
}

/// Uniforms u of one block of 16 to normals: value j = r cos θ and value j + 8 = r sin θ with
/// r = √(−2 ln(1 − u_j)), θ = 2π u_{j+8}. Products round to f32 where torch's do.
fn box_muller(block: &mut [f32]) {
    let (cosines, sines) = block.split_at_mut(FILL_BLOCK / 2);
    for (first, second) in cosines.iter_mut().zip(sines) {
        let log = libm::log(f64::from(1.0 - *first)) as f32;
        let radius = libm::sqrtf(-2.0 * log);
        let theta = f64::from(TAU_F32 * *second);
        *first = radius * libm::cos(theta) as f32;
        *second = radius * libm::sin(theta) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Consecutive `torch.randn(n, generator=g)` of torch 2.15 with seed 0: a spare of the scalar
    /// path waits through vectorised draws.
    #[test]
    fn consecutive_draws_of_any_size_equal_torchs() {
        let mut generator = TorchCpu::new(0);
        let mut check = |count: usize, first: &[f32], last: &[f32]| {
            let values = generator.normals(count);
            let tail = &values[count - last.len()..];
            for (value, wanted) in values.iter().zip(first).chain(tail.iter().zip(last)) {
                let gap = (value - wanted).abs();
                assert!(gap <= 1e-6, "{count} values: {value} against {wanted}");
            }
        };
        check(
            5,
            &[1.540_996_1, -0.293_428_9, -2.178_789_4],
            &[0.568_431_26, -1.084_522_4],
        );
        check(3, &[-1.398_595_5, 0.403_346_84, 0.838_026_35], &[]);
        check(
            20,
            &[],
            &[1.203_223_7, 0.084_534_7, -1.200_139_4, -0.004_785_738],
        );
        check(
            7,
            &[-1.290_435_1, -0.791_102_7],
            &[-1.312_522, 0.191_995_07],
        );
        check(1, &[0.542_771_34], &[]);
        check(
            33,
            &[-1.478_174, 2.567_232_8],
            &[0.232_918_29, 0.796_887_16],
        );
        check(2, &[1.030_913, 2.208_446_7], &[]);
    }
}
