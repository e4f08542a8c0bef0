//! Euler steps of EDM: noise levels and preconditioning of its own (arXiv 2206.00364, table 1 and
//! algorithm 2 with first order).
//!
//! The network is told log σ / 4, and its input has the deviation of the data.

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::euler::{Churn, toward};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, OUTPUT, X, sum};
use super::spacing::linspace;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "edm_euler",
    class: "EDMEulerScheduler",
    options: &[
        "final_sigmas_type",
        "rho",
        "s_churn",
        "s_noise",
        "s_tmax",
        "s_tmin",
        "sigma_data",
        "sigma_max",
        "sigma_min",
        "sigma_schedule",
    ],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    // The sign of what the network's output is multiplied by.
    let sign = match PredictionType::read_noisy(options)? {
        PredictionType::Epsilon | PredictionType::Sample => 1.0,
        PredictionType::VPrediction => -1.0,
    };
    let positive = (f64::MIN_POSITIVE, 1e30);
    let data = options.number_within("sigma_data", 0.5, positive)?;
    let sigma_max = options.number_within("sigma_max", 80.0, positive)?;
    let churn = Churn::read(options)?;
    let sigmas = sigmas(options, sigma_max, steps)?;
    let (mut table, mut draws) = (Vec::with_capacity(steps), 0);
    for levels in sigmas.windows(2) {
        let (sigma, to) = (levels[0], levels[1]);
        let gamma = churn.gamma(sigma, steps);
        let hat = sigma * (gamma + 1.0);
        let draw = (gamma > 0.0).then_some(draws);
        draws += usize::from(draw.is_some());
        let added = churn.noise_scale * (hat * hat - sigma * sigma).max(0.0).sqrt();
        let noisier = sum(&[(1.0, X), (added, NOISE)]);
        let variance = hat * hat + data * data;
        let estimate = sum(&[
            (data * data / variance, noisier),
            (sign * hat * data / variance.sqrt(), OUTPUT),
        ]);
        table.push(SamplerStep {
            timestep: f64::from(sigma.ln() as f32) * 0.25,
            input_scale: 1.0 / sigma.hypot(data),
            draw,
            estimate,
            limit: Limit::None,
            next: toward(noisier, estimate, hat, to),
            stores: Vec::new(),
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: sigma_max.hypot(1.0),
        draws,
        history_slots: 0,
        steps: table,
    })
}

/// Noise levels in single precision, one more than steps.
fn sigmas(options: &Options, sigma_max: f64, steps: usize) -> Result<Vec<f64>, SamplerError> {
    let positive = (f64::MIN_POSITIVE, 1e30);
    let sigma_min = options.number_within("sigma_min", 0.002, positive)?;
    let rho = options.number_within("rho", 7.0, positive)?;
    let schedules = [("karras", true), ("exponential", false)];
    let is_karras = options.choice("sigma_schedule", "karras", &schedules)?;
    let ramp = linspace(0.0, 1.0, steps, true);
    let (high, low) = match is_karras {
        true => (sigma_max.powf(1.0 / rho), sigma_min.powf(1.0 / rho)),
        false => (sigma_max.ln(), sigma_min.ln()),
    };
    let level = |t: &f64| {
        let mixed = high + t * (low - high);
        let level = match is_karras {
            true => mixed.powf(rho),
            false => mixed.exp(),
        };
        f64::from(level as f32)
    };
    let mut sigmas: Vec<f64> = ramp.iter().map(level).collect();
    // diffusers lays exponential levels out from the least noise up: one step has that one alone.
    if let (false, [only]) = (is_karras, &mut sigmas[..]) {
        *only = f64::from(sigma_min as f32);
    }
    let least = sigmas.last().copied().unwrap_or(sigma_min);
    let finals = [("zero", 0.0), ("sigma_min", least)];
    sigmas.push(options.choice("final_sigmas_type", "zero", &finals)?);
    Ok(sigmas)
}
