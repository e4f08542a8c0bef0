//! DDPM ancestral sampling (arXiv 2006.11239, eq. 7).

use compiler::program::sampler::{SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, X, limited, sum};
use super::schedule::{alpha_bar, listed_timesteps, schedule};
use super::schedule::{threshold_or_clip, train_timesteps};
use super::spacing::{Spacing, timesteps};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "ddpm",
    class: "DDPMScheduler",
    options: &[
        "clip_sample",
        "clip_sample_range",
        "dynamic_thresholding_ratio",
        "rescale_betas_zero_snr",
        "sample_max_value",
        "steps_offset",
        "thresholding",
        "timestep_spacing",
        "timesteps",
        "variance_type",
    ],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// Which variance the added noise has.
#[derive(Clone, Copy)]
enum Variance {
    /// The posterior's.
    Small,
    /// The forward step's.
    Large,
}

/// The variances that need no second network output. (`fixed_large_log` is the root of a negative
/// logarithm in diffusers, so nobody can want it.)
const VARIANCES: &[(&str, Variance)] = &[
    ("fixed_small", Variance::Small),
    ("fixed_small_log", Variance::Small),
    ("fixed_large", Variance::Large),
];

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let train = train_timesteps(options)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold_or_clip(options, true)?;
    let variance_type = options.choice("variance_type", "fixed_small", VARIANCES)?;
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "leading")?;
    let points = match listed_timesteps(options, true)? {
        Some(points) => points,
        None => {
            let points = timesteps(spacing, train, steps, offset).into_iter();
            points.map(f64::round_ties_even).collect()
        }
    };
    let (mut table, mut draws) = (Vec::with_capacity(steps), 0);
    for (step, &timestep) in points.iter().enumerate() {
        let bar = alpha_bar(options, &schedule, step, timestep)?;
        let bar_to = match points.get(step + 1) {
            Some(&to) => alpha_bar(options, &schedule, step, to)?,
            None => 1.0,
        };
        let (alpha, beta) = (bar / bar_to, 1.0 - bar / bar_to);
        // diffusers keeps the posterior variance above 1e-20, because it may take its logarithm.
        let posterior = ((1.0 - bar_to) / (1.0 - bar) * beta).max(1e-20);
        let variance = match variance_type {
            Variance::Small => posterior,
            Variance::Large => beta,
        };
        let draw = (timestep > 0.0).then_some(draws);
        draws += usize::from(draw.is_some());
        let estimate = prediction.clean(bar.sqrt(), (1.0 - bar).sqrt());
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw,
            estimate,
            limit,
            next: sum(&[
                (bar_to.sqrt() * beta / (1.0 - bar), limited(estimate, limit)),
                (alpha.sqrt() * (1.0 - bar_to) / (1.0 - bar), X),
                (if draw.is_some() { variance.sqrt() } else { 0.0 }, NOISE),
            ]),
            stores: Vec::new(),
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: 0,
        steps: table,
    })
}
