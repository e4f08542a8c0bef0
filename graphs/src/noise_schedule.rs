//! Noise schedules: how much signal is left at each training timestep.
//!
//! Takes the numbers of a scheduler configuration and gives ᾱ for every timestep.
//! Arithmetic follows diffusers (`schedulers/scheduling_*.py`, constructors) in single precision
//! step by step, because samplers built on the result are compared with it; all later arithmetic
//! is double. It never reads a configuration file and knows no sampler.

use thiserror::Error;

/// Longest schedule accepted, so that a hostile configuration cannot ask for all memory.
pub const TRAIN_TIMESTEPS_MAX: usize = 100_000;

/// Shape of the betas over the training timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaSchedule {
    /// Evenly spaced β.
    Linear,
    /// Evenly spaced √β, the schedule of latent diffusion.
    ScaledLinear,
    /// ᾱ along a squared cosine, β at most 0.999 (arXiv 2102.09672, eq. 17).
    SquaredCosine,
    /// ᾱ from a Laplace-distributed log-SNR, as diffusers' DDPM has it.
    Laplace,
    /// β along a logistic curve from −6 to 6, as diffusers' DDPM has it.
    Sigmoid,
}

/// What defines a noise schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseScheduleSpec {
    /// Number of training timesteps, 1..=[`TRAIN_TIMESTEPS_MAX`].
    pub num_train_timesteps: usize,
    /// β at the least noisy end.
    pub beta_start: f64,
    /// β at the noisiest end.
    pub beta_end: f64,
    /// Curve between the ends.
    pub beta_schedule: BetaSchedule,
    /// Betas given outright, one for each timestep; they replace the three fields above.
    pub trained_betas: Option<Vec<f64>>,
    /// Whether √ᾱ is shifted and scaled to end at exactly zero (spec 4.10).
    pub zero_terminal_snr: bool,
}

/// Why a noise schedule cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NoiseScheduleError {
    /// The number of timesteps is zero or absurd.
    #[error("num_train_timesteps is {found}, wanted 1 to {TRAIN_TIMESTEPS_MAX}")]
    Length {
        /// What the configuration says.
        found: usize,
    },
    /// There are more or fewer trained betas than timesteps.
    #[error("trained_betas holds {found} numbers, wanted num_train_timesteps = {wanted}")]
    TrainedBetas {
        /// Betas given.
        found: usize,
        /// Timesteps of the schedule.
        wanted: usize,
    },
    /// A beta leaves no probability, or ᾱ is no number.
    #[error("alpha_bar at timestep {timestep} is {found}, wanted a number from 0 to 1")]
    OutOfRange {
        /// First offending timestep.
        timestep: usize,
        /// Its ᾱ.
        found: f32,
    },
}

/// ᾱ of every training timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
}

impl NoiseSchedule {
    /// Computes ᾱ = ∏(1 − β) in single precision with a double accumulator, as torch does.
    ///
    /// # Errors
    /// When the length is out of bounds, trained betas do not fit it, or some ᾱ is not in 0..=1.
    pub fn new(spec: &NoiseScheduleSpec) -> Result<NoiseSchedule, NoiseScheduleError> {
        let found = spec.num_train_timesteps;
        if found == 0 || found > TRAIN_TIMESTEPS_MAX {
            return Err(NoiseScheduleError::Length { found });
        }
        let mut betas = betas(spec)?;
        if spec.zero_terminal_snr {
            betas = rescale_zero_terminal_snr(&betas);
        }
        let alphas_cumprod = cumulative_product(&betas);
        let bad = alphas_cumprod.iter().position(|a| !(0.0..=1.0).contains(a));
        match bad {
            Some(timestep) => Err(NoiseScheduleError::OutOfRange {
                timestep,
                found: alphas_cumprod[timestep],
            }),
            None => Ok(NoiseSchedule { alphas_cumprod }),
        }
    }

    /// ᾱ for timesteps 0, 1, …, in the precision that diffusers stores.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// Signal and noise factors α = √ᾱ and σ = √(1 − ᾱ) at one timestep; none beyond the schedule.
    ///
    /// Noising is `α · x0 + σ · noise`; the velocity target is `α · noise − σ · x0` (spec 0.2,
    /// 0.3).
    pub fn signal_and_noise(&self, timestep: usize) -> Option<(f64, f64)> {
        let alpha_bar = f64::from(*self.alphas_cumprod.get(timestep)?);
        Some((alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()))
    }

    /// The timestep at which σ/α is `ratio`: fractional between two timesteps, along the logarithm
    /// of the ratio; the first or the last one beyond the schedule's ends.
    pub fn timestep_of(&self, ratio: f64) -> f64 {
        let at = |timestep: usize| match self.signal_and_noise(timestep) {
            Some((alpha, sigma)) => sigma / alpha,
            None => f64::INFINITY,
        };
        let bars = &self.alphas_cumprod;
        let below = (0..bars.len()).collect::<Vec<_>>();
        let above = below.partition_point(|&timestep| at(timestep) < ratio);
        if above == 0 || above == bars.len() {
            return above.min(bars.len() - 1) as f64;
        }
        let [low, high] = [at(above - 1), at(above)];
        match high == ratio {
            true => above as f64,
            false => (above - 1) as f64 + (ratio / low).ln() / (high / low).ln(),
        }
    }
}

/// Single-precision evenly spaced numbers, from both ends to the middle as torch.linspace does.
pub(crate) fn linspace_f32(start: f32, end: f32, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((count - 1 - i) as f32, end)
            }
        })
        .collect()
}

fn betas(spec: &NoiseScheduleSpec) -> Result<Vec<f32>, NoiseScheduleError> {
    let count = spec.num_train_timesteps;
    if let Some(trained) = &spec.trained_betas {
        if trained.len() != count {
            return Err(NoiseScheduleError::TrainedBetas {
                found: trained.len(),
                wanted: count,
            });
        }
        return Ok(trained.iter().map(|b| *b as f32).collect());
    }
    let (start, end) = (spec.beta_start, spec.beta_end);
    Ok(match spec.beta_schedule {
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, count),
        BetaSchedule::ScaledLinear => linspace_f32(start.sqrt() as f32, end.sqrt() as f32, count)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaSchedule::SquaredCosine => betas_for_alpha_bar(count, |time| {
            ((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
                .cos()
                .powi(2)
        }),
        BetaSchedule::Laplace => betas_for_alpha_bar(count, laplace_alpha_bar),
        BetaSchedule::Sigmoid => linspace_f32(-6.0, 6.0, count)
            .into_iter()
            .map(|x| 1.0 / (1.0 + (-x).exp()) * (end - start) as f32 + start as f32)
            .collect(),
    })
}

/// β = 1 − ᾱ((i+1)/N)/ᾱ(i/N), at most 0.999 (diffusers `betas_for_alpha_bar`).
fn betas_for_alpha_bar(count: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<f32> {
    let time = |i: usize| i as f64 / count as f64;
    (0..count)
        .map(|i| (1.0 - alpha_bar(time(i + 1)) / alpha_bar(time(i))).min(0.999) as f32)
        .collect()
}

fn laplace_alpha_bar(time: f64) -> f64 {
    let distance = 0.5 - time;
    let sign = 1.0_f64.copysign(distance);
    let snr = (-0.5 * sign * (1.0 - 2.0 * distance.abs() + 1e-6).ln()).exp();
    (snr / (1.0 + snr)).sqrt()
}

/// Shifts and scales √ᾱ so that its last entry is zero and its first stays
/// (arXiv 2305.08891, algorithm 1; spec 4.10).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = cumulative_product(betas)
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    roots
        .iter_mut()
        .for_each(|root| *root = (*root - last) * scale);
    let bars: Vec<f32> = roots.into_iter().map(|root| root * root).collect();
    let rest = bars.windows(2).map(|pair| 1.0 - pair[1] / pair[0]);
    std::iter::once(1.0 - bars[0]).chain(rest).collect()
}

fn cumulative_product(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}
