//! The multistep DPM-Solvers: plain, ++ and their stochastic forms, orders 1 to 3
//! (arXiv 2206.00927 and 2211.01095; spec 4.4).
//!
//! Takes the options of diffusers' `DPMSolverMultistepScheduler`, whose table serves three sampler
//! names. History: the last two converted outputs in a ring.

use compiler::program::sampler::{Row, SamplerStep, SamplerTable, Store};

use super::error::{SamplerError, Wanted};
use super::levels::{Level, convert};
use super::options::Options;
use super::prediction::PredictionType;
use super::row::{NOISE, X, slot, sum};
use super::schedule::threshold;
use super::solver_grid::{self, SolverGrid};

/// Class of the configuration files.
pub(super) const CLASS: &str = "DPMSolverMultistepScheduler";

/// Options that the table depends on.
pub(super) const OPTIONS: &[&str] = &[
    "algorithm_type",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "lambda_min_clipped",
    "lower_order_final",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "sigma_max",
    "sigma_min",
    "solver_order",
    "solver_type",
    "steps_offset",
    "thresholding",
    "timestep_spacing",
    "timesteps",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
];

/// Options of flow matching, which is refused as a whole.
pub(super) const INERT: &[&str] = &["flow_shift", "time_shift_type", "use_dynamic_shifting"];

/// Converted outputs that are kept.
const RING: usize = 2;

/// Which integral is solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm {
    /// Over the clean estimate (++) instead of ε.
    pub(super) data: bool,
    /// With fresh noise at each step.
    pub(super) stochastic: bool,
}

pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    (
        "dpmsolver",
        Algorithm {
            data: false,
            stochastic: false,
        },
    ),
    (
        "dpmsolver++",
        Algorithm {
            data: true,
            stochastic: false,
        },
    ),
    (
        "sde-dpmsolver",
        Algorithm {
            data: false,
            stochastic: true,
        },
    ),
    (
        "sde-dpmsolver++",
        Algorithm {
            data: true,
            stochastic: true,
        },
    ),
    (
        "deis",
        Algorithm {
            data: true,
            stochastic: false,
        },
    ),
];

/// Refuses flow matching, and networks that learned their variance.
pub(super) fn refuse_variants(options: &Options) -> Result<(), SamplerError> {
    if options.flag("use_flow_sigmas", false)? {
        return Err(options.wrong("use_flow_sigmas", "false"));
    }
    // These solvers do not read the variance, unless the network returns it as a second output.
    let fixed = [
        "none",
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
    ];
    options.choice("variance_type", "none", &fixed.map(|word| (word, ())))
}

/// Whether the second order is Heun's. Names of other solvers' types mean midpoint, as in
/// diffusers.
pub(super) fn is_heun(options: &Options) -> Result<bool, SamplerError> {
    let types = [
        ("midpoint", false),
        ("heun", true),
        ("logrho", false),
        ("bh1", false),
        ("bh2", false),
    ];
    options.choice("solver_type", "midpoint", &types)
}

/// How a run orders its solvers.
struct Plan {
    algorithm: Algorithm,
    order: usize,
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
    ends_clean: bool,
}

/// The table of the class, whatever name it goes by.
pub(super) fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let plan = Plan::read(options)?;
    let prediction = PredictionType::read(options)?;
    let limit = threshold(options)?;
    let SolverGrid { points, ratios } = solver_grid::read(options, steps)?;
    let levels: Vec<Level> = ratios.iter().map(|sigma| Level::new(*sigma)).collect();
    let mut table = Vec::with_capacity(points.len());
    for (step, &timestep) in points.iter().enumerate() {
        let at = levels[step];
        let (estimate, converted) = convert(plan.algorithm.data, prediction, at, limit);
        let earlier = [slot((step + RING - 1) % RING), slot(step % RING)];
        let order = plan.order_at(step, points.len());
        let first = (step + 1).saturating_sub(order);
        let outputs = [converted, earlier[0], earlier[1]];
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: plan.algorithm.stochastic.then_some(step),
            estimate,
            limit,
            next: plan.update(&levels[first..=step + 1], &outputs[..order]),
            stores: vec![Store {
                slot: step % RING,
                row: converted,
            }],
        });
    }
    let draws = if plan.algorithm.stochastic {
        table.len()
    } else {
        0
    };
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws,
        history_slots: RING,
        steps: table,
    })
}

impl Plan {
    fn read(options: &Options) -> Result<Plan, SamplerError> {
        refuse_variants(options)?;
        let algorithm = options.choice("algorithm_type", "dpmsolver++", ALGORITHMS)?;
        let order = options.count("solver_order", 2)?;
        let order_max = if algorithm.stochastic && !algorithm.data {
            2
        } else {
            3
        };
        if !(1..=order_max).contains(&order) {
            return Err(options.wrong("solver_order", Wanted::Order { max: order_max }));
        }
        let ends = [("zero", true), ("sigma_min", false)];
        let ends_clean = options.choice("final_sigmas_type", "zero", &ends)?;
        if ends_clean && !algorithm.data {
            return Err(options.wrong("final_sigmas_type", "sigma_min with this algorithm_type"));
        }
        Ok(Plan {
            algorithm,
            order,
            heun: is_heun(options)?,
            lower_order_final: options.flag("lower_order_final", true)?,
            euler_at_final: options.flag("euler_at_final", false)?,
            ends_clean,
        })
    }

    /// Order of a step: as many outputs as there are, fewer at the end of short runs.
    fn order_at(&self, step: usize, steps: usize) -> usize {
        /// From this many steps on, the end of a run is as fine as the rest.
        const STEPS_LONG: usize = 15;
        let short = self.lower_order_final && steps < STEPS_LONG;
        let cap = match steps - step {
            1 if self.euler_at_final || short || self.ends_clean => 1,
            2 if short => 2,
            _ => self.order,
        };
        self.order.min(step + 1).min(cap)
    }

    /// The next state from the levels of the outputs, oldest first and the target last, and the
    /// outputs, newest first. Terms D0, D1, D2 as in spec 4.4.
    fn update(&self, levels: &[Level], outputs: &[Row]) -> Row {
        let (to, at) = (levels[levels.len() - 1], levels[levels.len() - 2]);
        let h = to.lambda - at.lambda;
        let Weights {
            state,
            noise,
            outputs: weights,
        } = self
            .algorithm
            .weights(to, at, h, self.heun || outputs.len() > 2);
        let mut terms = vec![(state, X), (noise, NOISE), (weights[0], outputs[0])];
        if outputs.len() > 1 {
            let h0 = at.lambda - levels[levels.len() - 3].lambda;
            let slope = sum(&[(h / h0, outputs[0]), (-h / h0, outputs[1])]);
            if outputs.len() > 2 {
                let h1 = levels[levels.len() - 3].lambda - levels[levels.len() - 4].lambda;
                let (r0, r1) = (h0 / h, h1 / h);
                let older = sum(&[(1.0 / r1, outputs[1]), (-1.0 / r1, outputs[2])]);
                let bend = sum(&[(1.0 / (r0 + r1), slope), (-1.0 / (r0 + r1), older)]);
                terms.push((weights[1], sum(&[(1.0, slope), (r0, bend)])));
                terms.push((weights[2], bend));
            } else {
                terms.push((weights[1], slope));
            }
        }
        sum(&terms)
    }
}

impl Algorithm {
    /// Coefficients of state, noise and D0, D1, D2 for a step of λ by `h`. Heun's second term is
    /// the third order's as well.
    pub(super) fn weights(self, to: Level, at: Level, h: f64, heun: bool) -> Weights {
        // A last step that should stand still may go back by a rounding error: no noise then.
        // λ runs over 2h where noise is added; σ = 0 makes h infinite and exp(−h) zero.
        let Algorithm { data, stochastic } = self;
        if data {
            let span = if stochastic { 2.0 * h } else { h };
            let lost = (-span).exp_m1();
            let second = if heun { lost / span + 1.0 } else { -0.5 * lost };
            // The signs differ in diffusers' third-order formula with noise, and are kept.
            let half = if stochastic { -0.5 } else { 0.5 };
            let third = half - (lost + span) / (span * span);
            let ratio = to.sigma / at.sigma;
            Weights {
                state: if stochastic {
                    ratio * (-h).exp()
                } else {
                    ratio
                },
                noise: if stochastic {
                    to.sigma * (-lost).max(0.0).sqrt()
                } else {
                    0.0
                },
                outputs: [-to.alpha * lost, to.alpha * second, to.alpha * third],
            }
        } else {
            let grown = h.exp_m1();
            let second = if heun { grown / h - 1.0 } else { 0.5 * grown };
            let third = (grown - h) / (h * h) - 0.5;
            let twice = if stochastic { 2.0 } else { 1.0 };
            let noise = if stochastic {
                to.sigma * (2.0 * h).exp_m1().max(0.0).sqrt()
            } else {
                0.0
            };
            let by = -twice * to.sigma;
            Weights {
                state: to.alpha / at.alpha,
                noise,
                outputs: [by * grown, by * second, by * third],
            }
        }
    }
}

/// Coefficients of one step.
pub(super) struct Weights {
    pub(super) state: f64,
    pub(super) noise: f64,
    pub(super) outputs: [f64; 3],
}
