//! The single-step DPM-Solvers: several calls of the network make up one step of their order
//! (arXiv 2206.00927, algorithms 1 and 2; arXiv 2211.01095, algorithm 1).
//!
//! Each call goes on to its own timestep; those of second and third order start from the state at
//! the first. History: the last two converted outputs in a ring, and that state.

use compiler::program::sampler::{Row, SamplerStep, SamplerTable, Store};

use super::error::{SamplerError, Wanted};
use super::levels::{Level, convert};
use super::multistep::{ALGORITHMS, Algorithm, Weights, is_heun, refuse_variants};
use super::options::{Options, Preset, Sampler};
use super::prediction::PredictionType;
use super::row::{NOISE, X, slot, sum};
use super::schedule::threshold;
use super::solver_grid::{self, SolverGrid};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm++2s",
    class: "DPMSolverSinglestepScheduler",
    options: &[
        "algorithm_type",
        "dynamic_thresholding_ratio",
        "final_sigmas_type",
        "lambda_min_clipped",
        "lower_order_final",
        "sample_max_value",
        "solver_order",
        "solver_type",
        "thresholding",
        "timesteps",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_flow_sigmas",
        "use_karras_sigmas",
        "variance_type",
    ],
    inert: &["flow_shift", "time_shift_type", "use_dynamic_shifting"],
    defaults: &[],
    forced: &[
        ("algorithm_type", Preset::Word("dpmsolver++")),
        ("solver_order", Preset::Count(2)),
    ],
    rows,
};

/// Converted outputs that are kept.
const RING: usize = 2;
/// The state at the first call of a step.
const STATE: usize = 2;

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    refuse_variants(options)?;
    let algorithm = options.choice("algorithm_type", "dpmsolver++", ALGORITHMS)?;
    if algorithm.stochastic && !algorithm.data {
        return Err(options.wrong(
            "algorithm_type",
            "dpmsolver, dpmsolver++ or sde-dpmsolver++",
        ));
    }
    let order = options.count("solver_order", 2)?;
    if !(1..=RING + 1).contains(&order) {
        return Err(options.wrong("solver_order", Wanted::Order { max: RING + 1 }));
    }
    let ends = [("zero", true), ("sigma_min", false)];
    let ends_clean = options.choice("final_sigmas_type", "zero", &ends)?;
    if ends_clean && !algorithm.data {
        return Err(options.wrong("final_sigmas_type", "sigma_min with this algorithm_type"));
    }
    let lower_order_final = options.flag("lower_order_final", false)?;
    let heun = is_heun(options)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold(options)?;
    let SolverGrid { points, ratios } = solver_grid::read(options, steps)?;
    let levels: Vec<Level> = ratios.iter().map(|ratio| Level::new(*ratio)).collect();
    let mut table = Vec::with_capacity(points.len());
    for (step, &timestep) in points.iter().enumerate() {
        let (estimate, converted) = convert(algorithm.data, prediction, levels[step], limit);
        let earlier = [slot((step + RING - 1) % RING), slot(step % RING)];
        let is_last = step + 1 == points.len();
        // A run that does not divide into whole steps, or ends without noise, ends in first order.
        let order = match step % order + 1 {
            reached if is_last && (ends_clean || lower_order_final && reached == order) => 1,
            reached => reached,
        };
        let mut stores = vec![Store {
            slot: step % RING,
            row: converted,
        }];
        if order == 1 {
            stores.push(Store {
                slot: STATE,
                row: X,
            });
        }
        let outputs = [converted, earlier[0], earlier[1]];
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: algorithm.stochastic.then_some(step),
            estimate,
            limit,
            next: update(
                (algorithm, heun),
                &levels[step + 1 - order..=step + 1],
                &outputs[..order],
            ),
            stores,
        });
    }
    let draws = if algorithm.stochastic { table.len() } else { 0 };
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: RING + 1,
        steps: table,
    })
}

/// The next state from the levels of the outputs, oldest first and the target last, and the
/// outputs, newest first. D0, D1, D2 are differences from the oldest.
fn update((algorithm, heun): (Algorithm, bool), levels: &[Level], outputs: &[Row]) -> Row {
    let (to, start) = (levels[levels.len() - 1], levels[0]);
    let h = to.lambda - start.lambda;
    let Weights {
        state,
        noise,
        outputs: weights,
    } = algorithm.weights(to, start, h, heun || outputs.len() > 2);
    let from = if outputs.len() == 1 { X } else { slot(STATE) };
    let oldest = outputs[outputs.len() - 1];
    let mut terms = vec![(state, from), (noise, NOISE), (weights[0], oldest)];
    // The slope from the oldest output to the one at `level`, and where that lies in the step.
    let slope = |output: Row, level: Level| {
        let ratio = (level.lambda - start.lambda) / h;
        (sum(&[(1.0 / ratio, output), (-1.0 / ratio, oldest)]), ratio)
    };
    match *outputs {
        [newest, middle, _] => {
            let (newest, r0) = slope(newest, levels[2]);
            let (middle, r1) = slope(middle, levels[1]);
            if heun {
                let by = 1.0 / (r0 - r1);
                terms.push((weights[1], sum(&[(r0 * by, middle), (-r1 * by, newest)])));
                terms.push((weights[2], sum(&[(2.0 * by, newest), (-2.0 * by, middle)])));
            } else {
                terms.push((weights[1], newest));
            }
        }
        [newest, _] => terms.push((weights[1], slope(newest, levels[1]).0)),
        _ => {}
    }
    sum(&terms)
}
