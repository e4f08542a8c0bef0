//! Latent consistency models: jump to the clean estimate, noise it again (arXiv 2310.04378,
//! algorithm 3; spec 4.7).

use compiler::program::sampler::{SamplerStep, SamplerTable};

use super::error::{SamplerError, Wanted};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, X, limited, sum};
use super::schedule::{alpha_bar, expect_steps, listed_timesteps, schedule};
use super::schedule::{threshold_or_clip, train_timesteps};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "lcm",
    class: "LCMScheduler",
    options: &[
        "clip_sample",
        "clip_sample_range",
        "dynamic_thresholding_ratio",
        "original_inference_steps",
        "rescale_betas_zero_snr",
        "sample_max_value",
        "strength",
        "thresholding",
        "timestep_scaling",
        "timesteps",
    ],
    inert: &["set_alpha_to_one", "steps_offset", "timestep_spacing"],
    defaults: &[],
    forced: &[],
    rows,
};

/// c_skip and c_out of a consistency function at a timestep (arXiv 2310.04378, appendix D;
/// spec 1.7): (1, 0) at timestep 0, near (0, 1) everywhere else. `timestep_scaling` is 10 for
/// released models.
pub fn boundary(timestep: f64, timestep_scaling: f64) -> (f64, f64) {
    /// Standard deviation of the data.
    const SIGMA_DATA: f64 = 0.5;
    let scaled = timestep * timestep_scaling;
    let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
    (SIGMA_DATA * SIGMA_DATA / variance, scaled / variance.sqrt())
}

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold_or_clip(options, false)?;
    let scaling = options.number("timestep_scaling", 10.0)?;
    let points = timesteps(options, steps)?;
    let mut table = Vec::with_capacity(steps);
    for (step, &timestep) in points.iter().enumerate() {
        let bar = alpha_bar(options, &schedule, step, timestep)?;
        let estimate = prediction.clean(bar.sqrt(), (1.0 - bar).sqrt());
        let (skip, out) = boundary(timestep, scaling);
        let denoised = sum(&[(out, limited(estimate, limit)), (skip, X)]);
        let next = match points.get(step + 1) {
            Some(&to) => {
                let bar_to = alpha_bar(options, &schedule, step, to)?;
                sum(&[(bar_to.sqrt(), denoised), ((1.0 - bar_to).sqrt(), NOISE)])
            }
            None => denoised,
        };
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: (step + 1 < points.len()).then_some(step),
            estimate,
            limit,
            next,
            stores: Vec::new(),
        });
    }
    let draws = table.len().saturating_sub(1);
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: 0,
        steps: table,
    })
}

/// Timesteps spread over the grid that the model was distilled on: (i + 1)·(N / L) − 1 for
/// i < L·strength, every one an index of that grid (spec 4.7).
pub(super) fn timesteps(options: &Options, steps: usize) -> Result<Vec<f64>, SamplerError> {
    if let Some(points) = listed_timesteps(options, true)? {
        return Ok(points);
    }
    let train = train_timesteps(options)?;
    let original = options.count("original_inference_steps", 50)?;
    if original == 0 || original > train {
        return Err(options.wrong("original_inference_steps", Wanted::Count { max: train }));
    }
    let strength = options.number_within("strength", 1.0, (0.0, 1.0))?;
    let (stride, kept) = (train / original, (original as f64 * strength) as usize);
    if kept == 0 {
        return Err(options.wrong("strength", Wanted::Kept { of: original }));
    }
    expect_steps(options, steps, 1, kept)?;
    let index = |i: usize| (i as f64 * (kept as f64 / steps as f64)).floor() as usize;
    Ok((0..steps)
        .map(|i| ((kept - index(i)) * stride) as f64 - 1.0)
        .collect())
}
