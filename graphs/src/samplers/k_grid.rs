//! Noise levels of k-diffusion's samplers (Heun, DPM2, LMS), all of them along the schedule or one
//! of its curves.
//!
//! Takes their options, returns what a run visits. It never steps.

use super::error::SamplerError;
use super::euler::Grid;
use super::options::Options;
use super::schedule::{listed_timesteps, schedule, train_timesteps};
use super::sigmas::{Curve, TrainSigmas, along};
use super::spacing::{Spacing, timesteps};

/// Options that these samplers read.
pub(super) const OPTIONS: &[&str] = &[
    "steps_offset",
    "timestep_spacing",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_karras_sigmas",
];

/// The noise levels of a run, the last one 0, and the training schedule's.
pub(super) struct KGrid {
    pub(super) grid: Grid,
    pub(super) train: TrainSigmas,
}

/// Reads the grid of a run. `whole_karras` rounds the timesteps of Karras' curve.
pub(super) fn read(
    options: &Options,
    steps: usize,
    whole_karras: bool,
) -> Result<KGrid, SamplerError> {
    let curves = [
        ("use_karras_sigmas", Curve::Karras),
        ("use_exponential_sigmas", Curve::Exponential),
        ("use_beta_sigmas", Curve::Beta),
    ];
    let curve = Curve::read(options, &curves)?;
    let train = TrainSigmas::new(&schedule(options)?, false);
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "linspace")?;
    let listed = match options.sampler.reads("timesteps") {
        true => listed_timesteps(options, false)?,
        false => None,
    };
    let mut points = match listed {
        Some(points) => points,
        None => timesteps(spacing, train_timesteps(options)?, steps, offset),
    };
    let own = points
        .iter()
        .map(|point| train.at(f64::from(*point as f32)));
    let mut sigmas: Vec<f64> = own.collect();
    let ends = (sigmas.first().copied(), sigmas.last().copied());
    let ends = (ends.0.unwrap_or(f64::NAN), ends.1.unwrap_or(f64::NAN));
    if let Some(levels) = along(curve, &train, ends, steps) {
        let told = levels.iter().map(|sigma| train.timestep_of(*sigma));
        let is_whole = whole_karras && curve == Curve::Karras;
        points = match is_whole {
            true => told.map(f64::round_ties_even).collect(),
            false => told.collect(),
        };
        sigmas = levels;
    }
    sigmas.push(0.0);
    let grid = Grid::new(spacing, &sigmas, &points);
    Ok(KGrid { grid, train })
}
