//! Ancestral Euler: a step below the next noise level, then fresh noise up to it (spec 4.3).

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::euler::{Grid, clean, toward};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, X, sum};
use super::schedule::schedule;
use super::schedule::{train_timesteps, zero_terminal_snr};
use super::sigmas::TrainSigmas;
use super::spacing::{Spacing, timesteps};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "euler_a",
    class: "EulerAncestralDiscreteScheduler",
    options: &["rescale_betas_zero_snr", "steps_offset", "timestep_spacing"],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// An ancestral step from level `sigma` to level `to`: the level it goes down to, and the deviation
/// of the fresh noise that leads back up to `to`.
pub(super) fn split(sigma: f64, to: f64) -> (f64, f64) {
    let up = to * (1.0 - (to / sigma).powi(2)).max(0.0).sqrt();
    let down = (to * to - up * up).max(0.0).sqrt();
    (down, up)
}

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let prediction = PredictionType::read_noisy(options)?;
    let train = TrainSigmas::new(&schedule(options)?, zero_terminal_snr(options)?);
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "linspace")?;
    let points = timesteps(spacing, train_timesteps(options)?, steps, offset);
    let mut sigmas: Vec<f64> = points
        .iter()
        .map(|point| train.at(f64::from(*point as f32)))
        .collect();
    sigmas.push(0.0);
    let grid = Grid::new(spacing, &sigmas, &points);
    let mut table = Vec::with_capacity(grid.timesteps.len());
    for (step, levels) in grid.sigmas.windows(2).enumerate() {
        let (sigma, to) = (levels[0], levels[1]);
        let (down, up) = split(sigma, to);
        let estimate = clean(prediction, X, sigma, sigma);
        table.push(SamplerStep {
            timestep: grid.timesteps[step],
            input_scale: 1.0 / sigma.hypot(1.0),
            draw: Some(step),
            estimate,
            limit: Limit::None,
            next: sum(&[(1.0, toward(X, estimate, sigma, down)), (up, NOISE)]),
            stores: Vec::new(),
        });
    }
    let (init_noise_sigma, draws) = (grid.init_noise_sigma, table.len());
    Ok(SamplerTable {
        init_noise_sigma,
        draws,
        history_slots: 0,
        steps: table,
    })
}
