//! Normals by seed: the noise that users of other tools know.
//!
//! Takes a generator, a seed and the shape of the latents; gives unit normals, first the initial
//! latents, then the noise of every later draw. Never reads a clock or a device: the same seed
//! gives the same bits on every machine, wasm included (all logarithms and sines are `libm`'s).
//! Spec 4.12.

mod choices;
pub(crate) mod philox;
mod torch_cpu;
mod twister;

use thiserror::Error;

use self::torch_cpu::TorchCpu;

pub use choices::Choices;

/// Which tool's noise a seed means (spec 4.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// Philox 4×32-10: torch on CUDA, A1111's "NV", stable-diffusion.cpp's `cuda`.
    /// Picture `i` of a batch uses `seed + i`, so a picture does not depend on its batch.
    Philox,
    /// Mersenne Twister 19937: torch on the CPU. One generator draws for the whole batch.
    TorchCpu,
}

/// Why no noise can be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoiseError {
    /// The shape has more values than a counter or memory can address.
    #[error("noise of shape {shape:?} has too many values, wanted at most 2^32 for each picture")]
    TooLarge {
        /// `[batch, channels, height, width]`.
        shape: [usize; 4],
    },
}

/// The draws of one sampling run, in order.
#[derive(Debug, Clone)]
pub struct Noise {
    shape: [usize; 4],
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Philox { seed: u64, draw: u32 },
    TorchCpu(Box<TorchCpu>),
}

impl Noise {
    /// Starts the noise of `seed` for latents of `shape` `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// When a picture has more than 2³² values, or the batch more than `isize::MAX` bytes.
    pub fn new(generator: Generator, seed: u64, shape: [usize; 4]) -> Result<Noise, NoiseError> {
        let too_large = NoiseError::TooLarge { shape };
        let [batch, channels, height, width] = shape;
        let picture = channels
            .checked_mul(height)
            .and_then(|plane| plane.checked_mul(width))
            .filter(|&count| u64::try_from(count).is_ok_and(|count| count <= 1 << 32))
            .ok_or(too_large.clone())?;
        picture
            .checked_mul(batch)
            .and_then(|count| count.checked_mul(size_of::<f32>()))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(too_large)?;
        let source = match generator {
            Generator::Philox => Source::Philox { seed, draw: 0 },
            Generator::TorchCpu => Source::TorchCpu(Box::new(TorchCpu::new(seed))),
        };
        Ok(Noise { shape, source })
    }

    /// The next draw, `[batch, channels, height, width]` in row-major order: the initial latents
    /// (unit variance) at the first call, then the noise of draw 1, 2, … of the sampler.
    ///
    /// A caller whose initial latents come from elsewhere still makes (and drops) the first draw,
    /// so that the later ones keep their place.
    pub fn draw(&mut self) -> Vec<f32> {
        let [batch, channels, height, width] = self.shape;
        let picture = channels * height * width;
        match &mut self.source {
            Source::Philox { seed, draw } => {
                let offset = *draw;
                *draw = draw.wrapping_add(1);
                (0u64..)
                    .take(batch)
                    .flat_map(|index| philox::normals(seed.wrapping_add(index), offset, picture))
                    .collect()
            }
            Source::TorchCpu(generator) => generator.normals(batch * picture),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `skip` times, then compares the start and the end of the next draw.
    fn check(
        (generator, seed, shape, skip): (Generator, u64, [usize; 4], usize),
        first: &[f32],
        last: &[f32],
    ) {
        let mut noise = Noise::new(generator, seed, shape).expect("the shapes here are small");
        for _ in 0..skip {
            noise.draw();
        }
        let draw = noise.draw();
        assert_eq!(draw.len(), shape.iter().product::<usize>());
        let tail = &draw[draw.len() - last.len()..];
        for (value, wanted) in draw.iter().zip(first).chain(tail.iter().zip(last)) {
            assert!(
                (value - wanted).abs() <= 1e-6,
                "{generator:?} seed {seed} draw {skip}: {value} against {wanted}"
            );
        }
    }

    #[test]
    fn philox_gives_the_published_values() {
        let philox = |seed, skip| (Generator::Philox, seed, [1, 1, 3, 4], skip);
        check(
            philox(0, 0),
            &[
                -0.9246626, -0.4253441, -2.6438458, 0.1451839, -0.1208665, -0.5797257, -0.6228513,
                -0.3283871, -1.0745423, -0.3631441, -1.6710507, 2.265505,
            ],
            &[],
        );
        check(
            philox(0, 1),
            &[0.1808259, -0.5522627, 0.9238134, -0.7349703],
            &[],
        );
        check(
            philox(42, 0),
            &[0.1940189, 2.1613739, -0.172051, 0.84906],
            &[],
        );
        check(
            philox((1 << 33) + 7, 0),
            &[-0.2837313, -1.4213231, 0.7213315, -1.08845],
            &[],
        );
    }

    #[test]
    fn torch_cpu_gives_torchs_values() {
        let torch = |seed, count, skip| (Generator::TorchCpu, seed, [1, 1, 1, count], skip);
        check(
            torch(0, 16, 0),
            &[-1.1258398, -1.1523602, -0.2505786, -0.4338788],
            &[1.1167772, -0.2472782],
        );
        check(
            torch(42, 64, 0),
            &[1.9269153, 1.4872841, 0.9007172, -2.105521],
            &[],
        );
        check(
            torch((1 << 32) + 5, 40, 0),
            &[1.8423299, 0.5188872, -1.7119213, -1.7013793],
            &[-2.2280848, -1.289669],
        );
        check(
            (Generator::TorchCpu, 123, [2, 4, 8, 8], 3),
            &[0.7957389, 0.5350099, 0.9427488, 0.6506543],
            &[1.5783281, -1.294977, -1.8706653, 0.7656791],
        );
    }

    #[test]
    fn a_picture_of_philox_does_not_depend_on_its_batch() {
        let draws = |seed, batch| {
            let mut noise = Noise::new(Generator::Philox, seed, [batch, 4, 2, 2])
                .expect("the shapes here are small");
            [noise.draw(), noise.draw()]
        };
        let (batch, alone) = (draws(u64::MAX, 3), draws(1, 1));
        assert_eq!(batch[0][32..], alone[0]);
        assert_eq!(batch[1][32..], alone[1]);
    }

    #[test]
    fn a_shape_beyond_memory_is_an_error() {
        for shape in [
            [1, 1 << 31, 2, 2],
            [1 << 40, 4, 1 << 10, 1 << 12],
            [1, usize::MAX, 2, 1],
        ] {
            let refused = Noise::new(Generator::Philox, 0, shape).err();
            assert_eq!(refused, Some(NoiseError::TooLarge { shape }));
        }
    }
}
