//! Trajectory consistency: jump part of the way to clean, then noise up to the next timestep
//! (arXiv 2402.19159, algorithm 4; spec 4.9).

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::lcm;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, sum};
use super::schedule::{alpha_bar, schedule};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "tcd",
    class: "TCDScheduler",
    options: &[
        "eta",
        "original_inference_steps",
        "rescale_betas_zero_snr",
        "strength",
        "timesteps",
    ],
    inert: &[
        "clip_sample",
        "clip_sample_range",
        "dynamic_thresholding_ratio",
        "sample_max_value",
        "set_alpha_to_one",
        "steps_offset",
        "thresholding",
        "timestep_scaling",
        "timestep_spacing",
    ],
    defaults: &[],
    forced: &[],
    rows,
};

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let prediction = PredictionType::read(options)?;
    // The class's own default is 0.3, but diffusers' pipelines always pass an eta, by default 0.
    let eta = options.number_within("eta", 0.0, (0.0, 1.0))?;
    let points = lcm::timesteps(options, steps)?;
    let (mut table, mut draws) = (Vec::with_capacity(steps), 0);
    for (step, &timestep) in points.iter().enumerate() {
        let to = points.get(step + 1).copied();
        let bar = alpha_bar(options, &schedule, step, timestep)?;
        let bar_to = alpha_bar(options, &schedule, step, to.unwrap_or(0.0))?;
        // torch multiplies 1 − η by the whole timestep in single precision.
        let below = (f64::from((1.0 - eta) as f32 * to.unwrap_or(0.0) as f32)).floor();
        let bar_below = alpha_bar(options, &schedule, step, below)?;
        let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
        let estimate = prediction.clean(alpha, sigma);
        let landed = sum(&[
            (bar_below.sqrt(), estimate),
            ((1.0 - bar_below).sqrt(), prediction.noise(alpha, sigma)),
        ]);
        let noised = to.is_some() && eta > 0.0;
        let next = if noised {
            let kept = bar_to / bar_below;
            sum(&[(kept.sqrt(), landed), ((1.0 - kept).max(0.0).sqrt(), NOISE)])
        } else {
            landed
        };
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: noised.then_some(draws),
            estimate,
            limit: Limit::None,
            next,
            stores: Vec::new(),
        });
        draws += usize::from(noised);
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: 0,
        steps: table,
    })
}
