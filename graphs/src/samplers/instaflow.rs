//! InstaFlow: Euler steps of a rectified flow, whose network predicts the velocity from noise to
//! clean latents (arXiv 2309.06380, algorithm 1; spec 2.4).

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable};

use super::error::SamplerError;
use super::options::{Options, Sampler};
use super::row::{OUTPUT, X, sum};
use super::schedule::train_timesteps;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "instaflow",
    class: "InstaFlowScheduler",
    options: &[],
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let train = train_timesteps(options)? as f64;
    let step = |number: usize| {
        let time = 1.0 - number as f64 / steps as f64;
        SamplerStep {
            timestep: time * train,
            input_scale: 1.0,
            draw: None,
            estimate: sum(&[(1.0, X), (time, OUTPUT)]),
            limit: Limit::None,
            next: sum(&[(1.0, X), (1.0 / steps as f64, OUTPUT)]),
            stores: Vec::new(),
        }
    };
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: 0,
        steps: (0..steps).map(step).collect(),
    })
}
