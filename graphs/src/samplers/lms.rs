//! Linear multistep along σ: Adams–Bashforth for uneven steps, as k-diffusion has it.
//!
//! The slope dx/dσ between two levels is the polynomial through the last four slopes, integrated
//! exactly. History: three earlier slopes in a ring.

use compiler::program::sampler::{Limit, SamplerStep, SamplerTable, Store};

use super::error::SamplerError;
use super::euler::clean;
use super::k_grid;
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{X, slot, sum};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "lms",
    class: "LMSDiscreteScheduler",
    options: k_grid::OPTIONS,
    inert: &[],
    defaults: &[],
    forced: &[],
    rows,
};

/// Slopes that a step combines at most.
const ORDER: usize = 4;
/// Slopes of earlier steps.
const RING: usize = ORDER - 1;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let prediction = PredictionType::read(options)?;
    let grid = k_grid::read(options, steps, false)?.grid;
    let mut table = Vec::with_capacity(grid.timesteps.len());
    for (step, &timestep) in grid.timesteps.iter().enumerate() {
        let sigma = grid.sigmas[step];
        let estimate = clean(prediction, X, sigma, sigma);
        let slope = sum(&[(1.0 / sigma, X), (-1.0 / sigma, estimate)]);
        let order = ORDER.min(step + 1);
        let nodes: Vec<f64> = (0..order).map(|age| grid.sigmas[step - age]).collect();
        let weights = weights(&nodes, grid.sigmas[step + 1]);
        let slopes = (1..order).map(|age| slot((step + RING - age) % RING));
        let slopes = std::iter::once(slope).chain(slopes);
        let mut terms = vec![(1.0, X)];
        terms.extend(weights.into_iter().zip(slopes));
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0 / sigma.hypot(1.0),
            draw: None,
            estimate,
            limit: Limit::None,
            next: sum(&terms),
            stores: vec![Store {
                slot: step % RING,
                row: slope,
            }],
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: grid.init_noise_sigma,
        draws: 0,
        history_slots: RING,
        steps: table,
    })
}

/// ∫ of each Lagrange polynomial of `nodes` from the first node to `to`. Two points of
/// Gauss–Legendre are exact for the cubics that four nodes have.
fn weights(nodes: &[f64], to: f64) -> Vec<f64> {
    let (middle, half) = (0.5 * (to + nodes[0]), 0.5 * (to - nodes[0]));
    let offset = half / 3.0_f64.sqrt();
    let lagrange = |own: usize, at: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(node, _)| *node != own);
        others
            .map(|(_, node)| (at - node) / (nodes[own] - node))
            .product()
    };
    let integral = |own| half * (lagrange(own, middle - offset) + lagrange(own, middle + offset));
    (0..nodes.len()).map(integral).collect()
}
