//! DDIM (arXiv 2010.02502, eq. 12 and 16; spec 4.1).
//!
//! The step goes from t to t − N/n, not to the next timestep of the list: with linspace spacing the
//! two differ, and diffusers' pictures come from the former.

use compiler::program::sampler::{SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, limited, sum};
use super::schedule::{alpha_bar, schedule};
use super::schedule::{threshold_or_clip, train_timesteps};
use super::spacing::{Spacing, timesteps};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "ddim",
    class: "DDIMScheduler",
    options: &[
        "clip_sample",
        "clip_sample_range",
        "dynamic_thresholding_ratio",
        "eta",
        "rescale_betas_zero_snr",
        "sample_max_value",
        "set_alpha_to_one",
        "steps_offset",
        "thresholding",
        "timestep_spacing",
    ],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let train = train_timesteps(options)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold_or_clip(options, true)?;
    let eta = options.number_within("eta", 0.0, (0.0, 1.0))?;
    let final_bar = if options.flag("set_alpha_to_one", true)? {
        1.0
    } else {
        alpha_bar(options, &schedule, 0, 0.0)?
    };
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "leading")?;
    let stride = (train / steps) as f64;
    let mut table = Vec::with_capacity(steps);
    for (step, timestep) in timesteps(spacing, train, steps, offset)
        .into_iter()
        .enumerate()
    {
        let timestep = timestep.round_ties_even();
        let bar = alpha_bar(options, &schedule, step, timestep)?;
        let bar_to = if timestep >= stride {
            alpha_bar(options, &schedule, step, timestep - stride)?
        } else {
            final_bar
        };
        let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
        let variance = (1.0 - bar_to) / (1.0 - bar) * (1.0 - bar / bar_to);
        let deviation = eta * variance.max(0.0).sqrt();
        let direction = (1.0 - bar_to - deviation * deviation).max(0.0).sqrt();
        let estimate = prediction.clean(alpha, sigma);
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: (eta > 0.0).then_some(step),
            estimate,
            limit,
            next: sum(&[
                (bar_to.sqrt(), limited(estimate, limit)),
                (direction, prediction.noise(alpha, sigma)),
                (deviation, NOISE),
            ]),
            stores: Vec::new(),
        });
    }
    let draws = if eta > 0.0 { table.len() } else { 0 };
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: 0,
        steps: table,
    })
}
