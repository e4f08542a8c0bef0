//! Heun's second-order steps along σ (arXiv 2206.00364, algorithm 2 without churn).
//!
//! Each step but the last calls the network twice: at its start, and at the end that an Euler step
//! reaches; it then moves from its start along the mean of both slopes. History: the first slope
//! and the state at the start.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable, Store};

use super::error::SamplerError;
use super::euler::{clean, toward};
use super::k_grid;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{X, limited, slot, sum};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "heun",
    class: "HeunDiscreteScheduler",
    options: &[
        "clip_sample",
        "clip_sample_range",
        "steps_offset",
        "timestep_spacing",
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

/// The slope at the start of the step.
const SLOPE: usize = 0;
/// The state at the start of the step.
const STATE: usize = 1;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let prediction = PredictionType::read(options)?;
    let bound = options.number_within("clip_sample_range", 1.0, (0.0, 1e30))?;
    let limit = match options.flag("clip_sample", false)? {
        true => Limit::Clip { bound },
        false => Limit::None,
    };
    let grid = k_grid::read(options, steps, false)?.grid;
    let mut table = Vec::with_capacity(2 * grid.timesteps.len());
    for (step, levels) in grid.sigmas.windows(2).enumerate() {
        let (sigma, to) = (levels[0], levels[1]);
        let estimate = clean(prediction, X, sigma, sigma);
        let x0 = limited(estimate, limit);
        table.push(SamplerStep {
            timestep: grid.timesteps[step],
            input_scale: 1.0 / sigma.hypot(1.0),
            draw: None,
            estimate,
            limit,
            next: toward(X, x0, sigma, to),
            stores: vec![
                Store {
                    slot: SLOPE,
                    row: slope(x0, sigma),
                },
                Store {
                    slot: STATE,
                    row: X,
                },
            ],
        });
        let Some(&timestep) = grid.timesteps.get(step + 1) else {
            continue;
        };
        let estimate = clean(prediction, X, to, to);
        let half = 0.5 * (to - sigma);
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0 / to.hypot(1.0),
            draw: None,
            estimate,
            limit,
            next: sum(&[
                (1.0, slot(STATE)),
                (half, slot(SLOPE)),
                (half, slope(limited(estimate, limit), to)),
            ]),
            stores: Vec::new(),
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: grid.init_noise_sigma,
        draws: 0,
        history_slots: 2,
        steps: table,
    })
}

/// dx/dσ of the state at level `sigma` whose clean estimate is `x0`.
fn slope(x0: Row, sigma: f64) -> Row {
    sum(&[(1.0 / sigma, X), (-1.0 / sigma, x0)])
}
