//! DPM2 of k-diffusion: second-order steps along σ by a midpoint in log σ (arXiv 2206.00364,
//! algorithm 2 with the midpoint of arXiv 2206.00927, algorithm 1).
//!
//! Each step but the last calls the network twice: at its start and at the midpoint, whose slope
//! then moves the state from the start. The ancestral form steps below the next level and adds
//! fresh noise up to it. History: the state at the start.

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable, Store};

use super::error::SamplerError;
use super::euler::{clean, toward};
use super::k_grid::{self, KGrid};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, X, slot, sum};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm2",
    class: "KDPM2DiscreteScheduler",
    options: k_grid::OPTIONS,
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// The state at the start of the step.
const STATE: usize = 0;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    table(options, steps, |_, to| (to, 0.0))
}

/// The table whose steps from a level to the next go down to `split`'s first level and add noise of
/// its second.
pub(super) fn table(
    options: &Options,
    steps: usize,
    split: impl Fn(f64, f64) -> (f64, f64),
) -> Result<SamplerTable, SamplerError> {
    let prediction = PredictionType::read_noisy(options)?;
    let KGrid { grid, train } = k_grid::read(options, steps, true)?;
    let (mut table, mut draws) = (Vec::with_capacity(2 * steps), 0);
    for (step, levels) in grid.sigmas.windows(2).enumerate() {
        let (sigma, to) = (levels[0], levels[1]);
        let (down, up) = split(sigma, to);
        // The last step ends at 0, whose midpoint in log σ is 0 too: one call reaches it.
        let middle = midpoint(sigma, down);
        let estimate = clean(prediction, X, sigma, sigma);
        table.push(SamplerStep {
            timestep: grid.timesteps[step],
            input_scale: 1.0 / sigma.hypot(1.0),
            draw: None,
            estimate,
            limit: Limit::None,
            next: toward(X, estimate, sigma, middle),
            stores: vec![Store {
                slot: STATE,
                row: X,
            }],
        });
        if to == 0.0 {
            continue;
        }
        let draw = (up > 0.0).then_some(draws);
        draws += usize::from(draw.is_some());
        let estimate = clean(prediction, X, middle, middle);
        let by = (down - sigma) / middle;
        table.push(SamplerStep {
            timestep: train.timestep_of(middle),
            input_scale: 1.0 / middle.hypot(1.0),
            draw,
            estimate,
            limit: Limit::None,
            next: sum(&[(1.0, slot(STATE)), (by, X), (-by, estimate), (up, NOISE)]),
            stores: Vec::new(),
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: grid.init_noise_sigma,
        draws,
        history_slots: 1,
        steps: table,
    })
}

/// √(from · to) in single precision, as diffusers interpolates logarithms.
fn midpoint(from: f64, to: f64) -> f64 {
    let log = |sigma: f64| sigma.ln() as f32;
    let middle = log(from) - (log(from) - log(to)) * 0.5;
    f64::from(f64::from(middle).exp() as f32)
}
