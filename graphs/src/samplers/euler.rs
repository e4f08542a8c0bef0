//! Euler steps along σ (arXiv 2206.00364, algorithm 2 with first order; spec 4.3).
//!
//! The state is x0 + σ·noise, so the network's input is the state over √(σ² + 1). The noise of
//! `s_churn` is added after the network has looked, as diffusers does.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, OUTPUT, X, sum};
use super::schedule::{listed_timesteps, schedule};
use super::schedule::{train_timesteps, zero_terminal_snr};
use super::sigmas::{Curve, TrainSigmas, along};
use super::spacing::{Spacing, linspace, timesteps};
use crate::noise_schedule::linspace_f32;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "euler",
    class: "EulerDiscreteScheduler",
    options: &[
        "final_sigmas_type",
        "interpolation_type",
        "rescale_betas_zero_snr",
        "s_churn",
        "s_noise",
        "s_tmax",
        "s_tmin",
        "sigma_max",
        "sigma_min",
        "sigmas",
        "steps_offset",
        "timestep_spacing",
        "timestep_type",
        "timesteps",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_karras_sigmas",
    ],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// Noise levels of a run, one more than steps, and what the network is told at each.
pub(super) struct Grid {
    pub(super) sigmas: Vec<f64>,
    pub(super) timesteps: Vec<f64>,
    pub(super) init_noise_sigma: f64,
}

impl Grid {
    /// Rounds σ and timesteps to single precision, as diffusers stores them. `leading` spacing
    /// starts from noise of variance σ² + 1.
    pub(super) fn new(spacing: Spacing, sigmas: &[f64], timesteps: &[f64]) -> Grid {
        let round = |values: &[f64]| values.iter().map(|v| f64::from(*v as f32)).collect();
        let sigmas: Vec<f64> = round(sigmas);
        let largest = sigmas.iter().copied().fold(0.0, f64::max);
        let init_noise_sigma = match spacing {
            Spacing::Linspace | Spacing::Trailing => largest,
            Spacing::Leading => largest.hypot(1.0),
        };
        Grid {
            sigmas,
            timesteps: round(timesteps),
            init_noise_sigma,
        }
    }
}

/// Random detours: how much noise is added at noise levels between two bounds.
pub(super) struct Churn {
    amount: f64,
    pub(super) noise_scale: f64,
    sigma_range: (f64, f64),
}

impl Churn {
    pub(super) fn read(options: &Options) -> Result<Churn, SamplerError> {
        Ok(Churn {
            amount: options.number_within("s_churn", 0.0, (0.0, f64::INFINITY))?,
            noise_scale: options.number("s_noise", 1.0)?,
            sigma_range: (
                options.number("s_tmin", 0.0)?,
                options.number("s_tmax", f64::INFINITY)?,
            ),
        })
    }

    /// γ of arXiv 2206.00364, algorithm 2; `intervals` is the number of steps it is spread over.
    pub(super) fn gamma(&self, sigma: f64, intervals: usize) -> f64 {
        if (self.sigma_range.0..=self.sigma_range.1).contains(&sigma) {
            (self.amount / intervals as f64).min(std::f64::consts::SQRT_2 - 1.0)
        } else {
            0.0
        }
    }
}

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let prediction = PredictionType::read(options)?;
    let churn = Churn::read(options)?;
    let grid = grid(options, steps, prediction)?;
    let (mut table, mut draws) = (Vec::with_capacity(grid.timesteps.len()), 0);
    for (levels, &timestep) in grid.sigmas.windows(2).zip(&grid.timesteps) {
        let (sigma, to) = (levels[0], levels[1]);
        let gamma = churn.gamma(sigma, grid.sigmas.len() - 1);
        let hat = sigma * (gamma + 1.0);
        let draw = (gamma > 0.0).then_some(draws);
        draws += usize::from(draw.is_some());
        let added = churn.noise_scale * (hat * hat - sigma * sigma).max(0.0).sqrt();
        let noisier = sum(&[(1.0, X), (added, NOISE)]);
        let estimate = clean(prediction, noisier, sigma, hat);
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0 / sigma.hypot(1.0),
            draw,
            estimate,
            limit: Limit::None,
            next: toward(noisier, estimate, hat, to),
            stores: Vec::new(),
        });
    }
    let init_noise_sigma = grid.init_noise_sigma;
    Ok(SamplerTable {
        init_noise_sigma,
        draws,
        history_slots: 0,
        steps: table,
    })
}

/// x0 from a state x0 + `hat`·noise. The velocity formula takes the level before churning, as
/// diffusers has it.
pub(super) fn clean(prediction: PredictionType, state: Row, sigma: f64, hat: f64) -> Row {
    match prediction {
        PredictionType::Epsilon => sum(&[(1.0, state), (-hat, OUTPUT)]),
        PredictionType::VPrediction => {
            let variance = sigma * sigma + 1.0;
            sum(&[(1.0 / variance, state), (-sigma / variance.sqrt(), OUTPUT)])
        }
        PredictionType::Sample => OUTPUT,
    }
}

/// The state moved from level `from` to level `to` on the straight line through the estimate.
pub(super) fn toward(state: Row, estimate: Row, from: f64, to: f64) -> Row {
    sum(&[(to / from, state), (1.0 - to / from, estimate)])
}

fn grid(options: &Options, steps: usize, prediction: PredictionType) -> Result<Grid, SamplerError> {
    let curves = [
        ("use_karras_sigmas", Curve::Karras),
        ("use_exponential_sigmas", Curve::Exponential),
        ("use_beta_sigmas", Curve::Beta),
    ];
    let curve = Curve::read(options, &curves)?;
    let train = TrainSigmas::new(&schedule(options)?, zero_terminal_snr(options)?);
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "linspace")?;
    if let Some(sigmas) = listed_sigmas(options)? {
        let told = sigmas[..sigmas.len() - 1].iter();
        let points: Vec<f64> = told.map(|sigma| train.timestep_of(*sigma)).collect();
        return Ok(Grid::new(spacing, &sigmas, &points));
    }
    let listed = listed_timesteps(options, false)?;
    let mut points = match listed {
        Some(points) => points,
        None => timesteps(spacing, train_timesteps(options)?, steps, offset),
    };
    let log_linear = options.choice(
        "interpolation_type",
        "linear",
        &[("linear", false), ("log_linear", true)],
    )?;
    let mut sigmas: Vec<f64> = if log_linear {
        log_linear_sigmas(&train, steps)
    } else {
        points
            .iter()
            .map(|point| train.at(f64::from(*point as f32)))
            .collect()
    };
    let largest = options
        .optional_number("sigma_max")?
        .or(sigmas.first().copied());
    let smallest = options
        .optional_number("sigma_min")?
        .or(sigmas.last().copied());
    let ends = (largest.unwrap_or(f64::NAN), smallest.unwrap_or(f64::NAN));
    if let Some(levels) = along(curve, &train, ends, steps) {
        points = levels
            .iter()
            .map(|sigma| train.timestep_of(*sigma))
            .collect();
        sigmas = levels;
    }
    let final_sigma = [("zero", 0.0), ("sigma_min", f64::from(train.sigmas[0]))];
    sigmas.push(options.choice("final_sigmas_type", "zero", &final_sigma)?);
    let types = [("discrete", false), ("continuous", true)];
    let continuous = options.choice("timestep_type", "discrete", &types)?;
    if continuous && prediction == PredictionType::VPrediction {
        // EDM's network argument (arXiv 2206.00364, table 1), log σ / 4 in single precision.
        let log = |sigma: &f64| f64::from((f64::from(*sigma as f32).ln()) as f32) * 0.25;
        points = sigmas[..sigmas.len() - 1].iter().map(log).collect();
    }
    Ok(Grid::new(spacing, &sigmas, &points))
}

/// Noise levels that are given by hand, if they are: in single precision, falling to 0.
fn listed_sigmas(options: &Options) -> Result<Option<Vec<f64>>, SamplerError> {
    let option = "sigmas";
    let Some(sigmas) = options.numbers(option)? else {
        return Ok(None);
    };
    if options.is_given("timesteps") {
        return Err(SamplerError::Conflict {
            first: "timesteps",
            second: option,
        });
    }
    let sigmas: Vec<f64> = sigmas.iter().map(|s| f64::from(*s as f32)).collect();
    let falls = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
    if sigmas.len() < 2 || !falls || sigmas.last() != Some(&0.0) || !sigmas[0].is_finite() {
        return Err(options.wrong(option, "two or more noise levels that fall to 0"));
    }
    Ok(Some(sigmas))
}

/// Evenly spaced log σ over the whole schedule, one more than steps: the last step then ends on
/// the schedule's smallest σ and the level after it goes unused, as in diffusers.
fn log_linear_sigmas(train: &TrainSigmas, steps: usize) -> Vec<f64> {
    let ends = (train.logs.last(), train.logs.first());
    let (Some(&high), Some(&low)) = ends else {
        return linspace(0.0, 0.0, steps + 1, true);
    };
    let logs = linspace_f32(high, low, steps + 1);
    logs.into_iter()
        .map(|log| f64::from(f64::from(log).exp() as f32))
        .collect()
}
