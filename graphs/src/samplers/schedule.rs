//! What all samplers read of their options: the noise schedule, bounds of steps, limits of the
//! clean latents.

use compiler::program::sampler::Limit;

use super::error::{SamplerError, Wanted};
use super::options::{Options, Sampler};
use crate::noise_schedule::{BetaSchedule, NoiseSchedule, NoiseScheduleSpec, TRAIN_TIMESTEPS_MAX};

/// Refuses a number of steps outside `min..=max`.
pub(super) fn expect_steps(
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

pub(super) fn train_timesteps(options: &Options) -> Result<usize, SamplerError> {
    let count = options.count("num_train_timesteps", 1000)?;
    if (1..=TRAIN_TIMESTEPS_MAX).contains(&count) {
        Ok(count)
    } else {
        let max = TRAIN_TIMESTEPS_MAX;
        Err(options.wrong("num_train_timesteps", Wanted::Count { max }))
    }
}

/// The first and last β and the curve between them where no option says: consistency samplers have
/// those of latent diffusion, those of k-diffusion's second order its betas, and the others DDPM's,
/// as their classes in diffusers do.
pub(super) fn default_betas(sampler: &Sampler) -> (f64, f64, &'static str) {
    match sampler.class {
        "LCMScheduler" | "TCDScheduler" | "PeRFlowScheduler" => (0.00085, 0.012, "scaled_linear"),
        "HeunDiscreteScheduler" | "KDPM2DiscreteScheduler" | "KDPM2AncestralDiscreteScheduler" => {
            (0.00085, 0.012, "linear")
        }
        _ => (0.0001, 0.02, "linear"),
    }
}

/// The noise schedule that the options describe.
pub(super) fn schedule(options: &Options) -> Result<NoiseSchedule, SamplerError> {
    let (start, end, curve) = default_betas(options.sampler);
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

/// The option that rescales a schedule so that its last timestep holds no signal.
pub(super) const ZERO_TERMINAL_SNR: &str = "rescale_betas_zero_snr";

pub(super) fn zero_terminal_snr(options: &Options) -> Result<bool, SamplerError> {
    let option = ZERO_TERMINAL_SNR;
    Ok(options.sampler.reads(option) && options.flag(option, false)?)
}

/// Timesteps that are given by hand, from noisy to clean, if they are. `whole` ones only where ᾱ is
/// looked up by them.
pub(super) fn listed_timesteps(
    options: &Options,
    whole: bool,
) -> Result<Option<Vec<f64>>, SamplerError> {
    let option = "timesteps";
    let Some(points) = options.numbers(option)? else {
        return Ok(None);
    };
    let last = train_timesteps(options)? as f64 - 1.0;
    let is_timestep = |t: &f64| (0.0..=last).contains(t) && (!whole || t.fract() == 0.0);
    let falls = points.windows(2).all(|pair| pair[0] > pair[1]);
    if points.is_empty() || !falls || !points.iter().all(is_timestep) {
        return Err(options.wrong(option, Wanted::Timesteps { whole, last }));
    }
    Ok(Some(points))
}

/// ᾱ at a whole timestep of the schedule.
pub(super) fn alpha_bar(
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
pub(super) fn threshold(options: &Options) -> Result<Limit, SamplerError> {
    if !options.flag("thresholding", false)? {
        return Ok(Limit::None);
    }
    Ok(Limit::Threshold {
        quantile: options.number_within("dynamic_thresholding_ratio", 0.995, (0.0, 1.0))?,
        bound_max: options.number_within("sample_max_value", 1.0, (f64::MIN_POSITIVE, 1e30))?,
    })
}

/// Dynamic thresholding, or else clipping, if the options ask for it.
pub(super) fn threshold_or_clip(
    options: &Options,
    clip_default: bool,
) -> Result<Limit, SamplerError> {
    let clip = options.flag("clip_sample", clip_default)?;
    let bound = options.number_within("clip_sample_range", 1.0, (0.0, 1e30))?;
    Ok(match (threshold(options)?, clip) {
        (Limit::None, true) => Limit::Clip { bound },
        (limit, true | false) => limit,
    })
}
