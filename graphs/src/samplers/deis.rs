//! DEIS: multistep on ε by polynomials in log ρ, ρ = σ/α (arXiv 2204.13902, ρAB-DEIS; orders 1 to
//! 3).
//!
//! History: the last two values of ε in a ring.

use compiler::program::sampler::{Row, SamplerStep, SamplerTable, Store};

use super::error::{SamplerError, Wanted};
use super::levels::{Level, convert};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{X, slot, sum};
use super::schedule::threshold;
use super::solver_grid::{self, SolverGrid};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "deis",
    class: "DEISMultistepScheduler",
    options: &[
        "algorithm_type",
        "dynamic_thresholding_ratio",
        "lower_order_final",
        "sample_max_value",
        "solver_order",
        "solver_type",
        "steps_offset",
        "thresholding",
        "timestep_spacing",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_flow_sigmas",
        "use_karras_sigmas",
    ],
    inert: &["flow_shift", "time_shift_type", "use_dynamic_shifting"],
    defaults: &[],
    forced: &[],
    rows,
};

/// Values of ε that are kept.
const RING: usize = 2;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    if options.flag("use_flow_sigmas", false)? {
        return Err(options.wrong("use_flow_sigmas", "false"));
    }
    // Names of other solvers' algorithms and types mean DEIS here, as in diffusers.
    let algorithms = ["deis", "dpmsolver", "dpmsolver++"].map(|word| (word, ()));
    options.choice("algorithm_type", "deis", &algorithms)?;
    let types = ["logrho", "midpoint", "heun", "bh1", "bh2"].map(|word| (word, ()));
    options.choice("solver_type", "logrho", &types)?;
    let order = options.count("solver_order", 2)?;
    if !(1..=RING + 1).contains(&order) {
        return Err(options.wrong("solver_order", Wanted::Order { max: RING + 1 }));
    }
    let lower_order_final = options.flag("lower_order_final", true)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold(options)?;
    let SolverGrid { points, ratios } = solver_grid::read(options, steps)?;
    let levels: Vec<Level> = ratios.iter().map(|ratio| Level::new(*ratio)).collect();
    let mut table = Vec::with_capacity(points.len());
    for (step, &timestep) in points.iter().enumerate() {
        let at = levels[step];
        let (estimate, noise) = convert(false, prediction, at, limit);
        let earlier = [slot((step + RING - 1) % RING), slot(step % RING)];
        let left = points.len() - step;
        let order = order.min(step + 1).min(match lower_order_final {
            // From 15 steps on, the end of a run is as fine as the rest.
            true if points.len() < 15 => left,
            true | false => order,
        });
        let outputs = [noise, earlier[0], earlier[1]];
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: None,
            estimate,
            limit,
            next: update(&levels[step + 1 - order..=step + 1], &outputs[..order]),
            stores: vec![Store {
                slot: step % RING,
                row: noise,
            }],
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: RING,
        steps: table,
    })
}

/// The next state: α_t (x / α_s + Σ ε_k ∫ ℓ_k dρ), with ℓ_k the Lagrange polynomials in log ρ, from
/// the levels of the outputs, oldest first and the target last, and the outputs, newest first.
fn update(levels: &[Level], outputs: &[Row]) -> Row {
    let rho = |level: &Level| level.sigma / level.alpha;
    let (to, at) = (levels[levels.len() - 1], levels[levels.len() - 2]);
    let nodes: Vec<f64> = levels
        .iter()
        .rev()
        .skip(1)
        .map(|level| rho(level).ln())
        .collect();
    let mut terms = vec![(to.alpha / at.alpha, X)];
    for (own, output) in outputs.iter().enumerate() {
        let others = nodes.iter().enumerate().filter(|(node, _)| *node != own);
        let others: Vec<f64> = others.map(|(_, node)| *node).collect();
        let divisor: f64 = others.iter().map(|node| nodes[own] - node).product();
        let area = antiderivative(rho(&to), &others) - antiderivative(rho(&at), &others);
        terms.push((to.alpha * area / divisor, *output));
    }
    sum(&terms)
}

/// ∫ Π (ln ρ − node) dρ at ρ, for at most two nodes.
fn antiderivative(rho: f64, nodes: &[f64]) -> f64 {
    let log = rho.ln();
    match *nodes {
        [] => rho,
        [a] => rho * (log - a - 1.0),
        [a, b, ..] => rho * ((log - a) * (log - b) - (log - a) - (log - b) + 2.0),
    }
}
