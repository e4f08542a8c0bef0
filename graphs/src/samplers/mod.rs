//! Samplers as tables: each file writes one sampler's formulas as rows of numbers.
//!
//! Takes a [`SamplerConfig`] and a number of steps, gives a [`SamplerTable`] that the runtime obeys
//! without knowing which sampler it is. All arithmetic is double precision on the host, except
//! where the noise levels themselves are defined in single. It never sees a tensor.

mod config;
mod ddim;
mod ddpm;
mod dpm;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod error;
mod euler;
mod euler_a;
mod lcm;
mod levels;
mod multistep;
mod options;
mod perflow;
mod pndm;
mod row;
mod sigmas;
mod spacing;
mod splam;
mod tcd;
mod unipc;

use compiler::program::sampler::{Limit, Row, SamplerTable};
use serde_json::Value;

pub use config::SamplerConfig;
pub use error::SamplerError;
pub use lcm::boundary as lcm_boundary;

use crate::noise_schedule::{BetaSchedule, NoiseSchedule, NoiseScheduleSpec, TRAIN_TIMESTEPS_MAX};
use options::Options;
use row::{OUTPUT, X, is_finite, sum};

/// Every sampler. Where several share a class, the first stands for a file of that class.
const SAMPLERS: &[&Sampler] = &[
    &ddim::SAMPLER,
    &ddpm::SAMPLER,
    &dpmpp_2m::SAMPLER,
    &dpmpp_2m_sde::SAMPLER,
    &dpm::SAMPLER,
    &euler::SAMPLER,
    &euler_a::SAMPLER,
    &lcm::SAMPLER,
    &perflow::SAMPLER,
    &pndm::SAMPLER,
    &splam::SAMPLER,
    &tcd::SAMPLER,
    &unipc::SAMPLER,
];

/// A sampler: its name, the options it has, and the function that writes its rows.
struct Sampler {
    /// Name on the command line.
    name: &'static str,
    /// Class in diffusers' configuration files.
    class: &'static str,
    /// Options it reads besides those of the noise schedule.
    options: &'static [&'static str],
    /// Options that its class has in diffusers and that change nothing.
    inert: &'static [&'static str],
    /// Options that the name implies unless a value was taken over.
    defaults: &'static [(&'static str, Preset)],
    /// Options that the name fixes.
    forced: &'static [(&'static str, Preset)],
    /// Writes the table for a number of steps that is already known to be 1..=training timesteps.
    rows: fn(&Options, usize) -> Result<SamplerTable, SamplerError>,
}

impl Sampler {
    fn reads(&self, option: &str) -> bool {
        config::SCHEDULE_OPTIONS.contains(&option) || self.options.contains(&option)
    }

    fn knows(&self, option: &str) -> bool {
        self.reads(option) || self.inert.contains(&option)
    }
}

/// A value that a sampler's name brings along.
enum Preset {
    Word(&'static str),
    Count(usize),
    On,
}

impl Preset {
    fn to_json(&self) -> Value {
        match self {
            Preset::Word(word) => Value::from(*word),
            Preset::Count(count) => Value::from(*count),
            Preset::On => Value::Bool(true),
        }
    }
}

/// What a network's output means (spec 0.3), with x = α·x0 + σ·ε.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise ε.
    Epsilon,
    /// The velocity α·ε − σ·x0.
    VPrediction,
    /// The clean latents x0.
    Sample,
}

impl PredictionType {
    fn read(options: &Options) -> Result<PredictionType, SamplerError> {
        let meanings = [
            ("epsilon", PredictionType::Epsilon),
            ("v_prediction", PredictionType::VPrediction),
            ("sample", PredictionType::Sample),
        ];
        options.choice("prediction_type", "epsilon", &meanings)
    }

    /// As [`PredictionType::read`], for the samplers that have no formula for clean latents.
    fn read_noisy(options: &Options) -> Result<PredictionType, SamplerError> {
        match PredictionType::read(options)? {
            PredictionType::Sample => {
                Err(options.wrong("prediction_type", "epsilon or v_prediction"))
            }
            noisy @ (PredictionType::Epsilon | PredictionType::VPrediction) => Ok(noisy),
        }
    }

    /// x0 from state and output, where the state holds α of signal and σ of noise, α² + σ² = 1.
    fn clean(self, alpha: f64, sigma: f64) -> Row {
        match self {
            PredictionType::Epsilon => sum(&[(1.0 / alpha, X), (-sigma / alpha, OUTPUT)]),
            PredictionType::VPrediction => sum(&[(alpha, X), (-sigma, OUTPUT)]),
            PredictionType::Sample => OUTPUT,
        }
    }

    /// ε from state and output.
    fn noise(self, alpha: f64, sigma: f64) -> Row {
        match self {
            PredictionType::Epsilon => OUTPUT,
            PredictionType::VPrediction => sum(&[(sigma, X), (alpha, OUTPUT)]),
            PredictionType::Sample => sum(&[(1.0 / sigma, X), (-alpha / sigma, OUTPUT)]),
        }
    }
}

/// Names that [`SamplerConfig::with_sampler`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAMPLERS.iter().map(|sampler| sampler.name)
}

/// The table of a sampler for a number of steps. PNDM calls the network more often than it is
/// asked to, PeRFlow at least once in each time window: the table's length is what counts.
///
/// # Errors
/// When the class is not supported, an option has a wrong value or one that this sampler refuses,
/// the number of steps is zero or beyond what the schedule holds, or a coefficient is not finite.
pub fn table(config: &SamplerConfig, steps: usize) -> Result<SamplerTable, SamplerError> {
    let options = config.options()?;
    let train = train_timesteps(&options)?;
    expect_steps(&options, steps, 1, train)?;
    let table = (options.sampler.rows)(&options, steps)?;
    for (step, numbers) in table.steps.iter().enumerate() {
        let mut rows = numbers.stores.iter().map(|store| &store.row);
        let finite = rows.all(is_finite)
            && is_finite(&numbers.estimate)
            && is_finite(&numbers.next)
            && numbers.input_scale.is_finite()
            && numbers.timestep.is_finite();
        if !finite {
            let (sampler, timestep) = (options.sampler.name, numbers.timestep);
            return Err(SamplerError::NotFinite {
                sampler,
                step,
                timestep,
            });
        }
    }
    Ok(table)
}

/// Refuses a number of steps outside `min..=max`.
fn expect_steps(
    options: &Options,
    found: usize,
    min: usize,
    max: usize,
) -> Result<(), SamplerError> {
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(SamplerError::Steps {
            sampler: options.sampler.name,
            found,
            min,
            max,
        })
    }
}

fn train_timesteps(options: &Options) -> Result<usize, SamplerError> {
    let count = options.count("num_train_timesteps", 1000)?;
    if (1..=TRAIN_TIMESTEPS_MAX).contains(&count) {
        Ok(count)
    } else {
        let wanted = format!("a whole number from 1 to {TRAIN_TIMESTEPS_MAX}");
        Err(options.wrong("num_train_timesteps", &wanted))
    }
}

/// The noise schedule that the options describe. Consistency samplers start from the betas of
/// latent diffusion, the others from those of DDPM, as their classes in diffusers do.
fn schedule(options: &Options) -> Result<NoiseSchedule, SamplerError> {
    let latent = ["LCMScheduler", "TCDScheduler", "PeRFlowScheduler"];
    let (start, end, curve) = if latent.contains(&options.sampler.class) {
        (0.00085, 0.012, "scaled_linear")
    } else {
        (0.0001, 0.02, "linear")
    };
    let curves = [
        ("linear", BetaSchedule::Linear),
        ("scaled_linear", BetaSchedule::ScaledLinear),
        ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
        ("laplace", BetaSchedule::Laplace),
        ("sigmoid", BetaSchedule::Sigmoid),
    ];
    // The last two are known to diffusers' DDPM alone.
    let known = if options.sampler.class == "DDPMScheduler" {
        &curves[..]
    } else {
        &curves[..3]
    };
    Ok(NoiseSchedule::new(&NoiseScheduleSpec {
        num_train_timesteps: train_timesteps(options)?,
        beta_start: options.number("beta_start", start)?,
        beta_end: options.number("beta_end", end)?,
        beta_schedule: options.choice("beta_schedule", curve, known)?,
        trained_betas: options.numbers("trained_betas")?,
        zero_terminal_snr: zero_terminal_snr(options)?,
    })?)
}

fn zero_terminal_snr(options: &Options) -> Result<bool, SamplerError> {
    let option = "rescale_betas_zero_snr";
    Ok(options.sampler.reads(option) && options.flag(option, false)?)
}

/// ᾱ at a whole timestep of the schedule.
fn alpha_bar(
    options: &Options,
    schedule: &NoiseSchedule,
    step: usize,
    timestep: f64,
) -> Result<f64, SamplerError> {
    let bars = schedule.alphas_cumprod();
    if timestep >= 0.0 && timestep < bars.len() as f64 {
        Ok(f64::from(bars[timestep as usize]))
    } else {
        let (sampler, max) = (options.sampler.name, bars.len() - 1);
        Err(SamplerError::Timestep {
            sampler,
            step,
            timestep,
            max,
        })
    }
}

/// Dynamic thresholding, if the options ask for it.
fn threshold(options: &Options) -> Result<Limit, SamplerError> {
    if !options.flag("thresholding", false)? {
        return Ok(Limit::None);
    }
    Ok(Limit::Threshold {
        quantile: options.number_within("dynamic_thresholding_ratio", 0.995, (0.0, 1.0))?,
        bound_max: options.number_within("sample_max_value", 1.0, (f64::MIN_POSITIVE, 1e30))?,
    })
}

/// Dynamic thresholding, or else clipping, if the options ask for it.
fn threshold_or_clip(options: &Options, clip_default: bool) -> Result<Limit, SamplerError> {
    let clip = options.flag("clip_sample", clip_default)?;
    let bound = options.number_within("clip_sample_range", 1.0, (0.0, 1e30))?;
    Ok(match (threshold(options)?, clip) {
        (Limit::None, true) => Limit::Clip { bound },
        (limit, true | false) => limit,
    })
}
