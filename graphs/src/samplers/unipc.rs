//! UniPC: a multistep predictor, corrected when the network has seen the predicted state
//! (arXiv 2302.04867, eq. 3 and 8; spec 4.5).
//!
//! The correction of a step needs the output of the next call, so one row corrects the last step
//! and predicts the next. History: three converted outputs in a ring, and the corrected state that
//! the last prediction started from.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable, Store};

use super::error::{SamplerError, Wanted};
use super::levels::{Level, convert, sigma_ends};
use super::options::{Options, Sampler};
use super::prediction::PredictionType;
use super::row::{X, slot, sum};
use super::schedule::{schedule, threshold};
use super::schedule::{train_timesteps, zero_terminal_snr};
use super::sigmas::{Curve, TrainSigmas, along};
use super::spacing::{Spacing, solver_timesteps};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "unipc",
    class: "UniPCMultistepScheduler",
    options: &[
        "disable_corrector",
        "dynamic_thresholding_ratio",
        "final_sigmas_type",
        "lower_order_final",
        "predict_x0",
        "rescale_betas_zero_snr",
        "sample_max_value",
        "shift_terminal",
        "sigma_max",
        "sigma_min",
        "solver_order",
        "solver_p",
        "solver_type",
        "steps_offset",
        "thresholding",
        "timestep_spacing",
        "use_beta_sigmas",
        "use_dynamic_shifting",
        "use_exponential_sigmas",
        "use_flow_sigmas",
        "use_karras_sigmas",
    ],
    inert: &["flow_shift", "time_shift_type"],
    defaults: &[],
    forced: &[],
    rows,
};

/// Converted outputs that are kept; also the highest order.
const RING: usize = 3;
/// The corrected state before the last prediction.
const LAST_STATE: usize = 3;

/// How a run predicts and corrects.
struct Plan {
    order: usize,
    /// Whether the outputs are clean estimates; ε otherwise.
    data: bool,
    /// Whether B(h) is e^h − 1 (bh2); h otherwise (bh1).
    exponential: bool,
    lower_order_final: bool,
    /// Steps whose prediction is not corrected.
    uncorrected: Vec<f64>,
}

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let plan = Plan::read(options)?;
    let prediction = PredictionType::read(options)?;
    // diffusers thresholds only what it converts to clean estimates.
    let threshold = threshold(options)?;
    let limit = if plan.data { threshold } else { Limit::None };
    let (points, sigmas) = grid(options, steps)?;
    let levels: Vec<Level> = sigmas.iter().map(|sigma| Level::new(*sigma)).collect();
    let mut table = Vec::with_capacity(points.len());
    for (step, &timestep) in points.iter().enumerate() {
        let (estimate, converted) = convert(plan.data, prediction, levels[step], limit);
        let earlier = |age: usize| slot((step + RING - age) % RING);
        let corrected = if step > 0 && !plan.uncorrected.contains(&(step as f64 - 1.0)) {
            let order = plan.order_at(step - 1, points.len());
            let outputs: Vec<Row> = (1..=order).map(earlier).collect();
            plan.correct(&levels[step - order..=step], &outputs, converted)
        } else {
            X
        };
        let order = plan.order_at(step, points.len());
        let outputs: Vec<Row> = std::iter::once(converted)
            .chain((1..order).map(earlier))
            .collect();
        let next = plan.predict(&levels[step + 1 - order..=step + 1], &outputs, corrected);
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: None,
            estimate,
            limit,
            next,
            stores: vec![
                Store {
                    slot: step % RING,
                    row: converted,
                },
                Store {
                    slot: LAST_STATE,
                    row: corrected,
                },
            ],
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: RING + 1,
        steps: table,
    })
}

impl Plan {
    fn read(options: &Options) -> Result<Plan, SamplerError> {
        for option in ["use_flow_sigmas", "use_dynamic_shifting"] {
            if options.flag(option, false)? {
                return Err(options.wrong(option, "false"));
            }
        }
        for option in ["solver_p", "shift_terminal"] {
            if options.is_given(option) {
                return Err(options.wrong(option, "null"));
            }
        }
        let order = options.count("solver_order", 2)?;
        if !(1..=RING).contains(&order) {
            return Err(options.wrong("solver_order", Wanted::Order { max: RING }));
        }
        // Names of other solvers' types mean bh2 here, as in diffusers.
        let types = [
            ("bh1", false),
            ("bh2", true),
            ("midpoint", true),
            ("heun", true),
            ("logrho", true),
        ];
        Ok(Plan {
            order,
            data: options.flag("predict_x0", true)?,
            exponential: options.choice("solver_type", "bh2", &types)?,
            lower_order_final: options.flag("lower_order_final", true)?,
            uncorrected: options.numbers("disable_corrector")?.unwrap_or_default(),
        })
    }

    fn order_at(&self, step: usize, steps: usize) -> usize {
        let left = if self.lower_order_final {
            steps - step
        } else {
            self.order
        };
        self.order.min(left).min(step + 1)
    }

    /// The state at the last of `levels`, from `outputs` at the levels before it, newest first.
    fn predict(&self, levels: &[Level], outputs: &[Row], state: Row) -> Row {
        let solve = |matrix: &Moments| match outputs.len() {
            1 => Vec::new(),
            // Two outputs: diffusers fixes the weight instead of solving for it.
            2 => vec![0.5],
            more => matrix.weights(more - 1),
        };
        self.advance(levels, outputs, state, None, solve)
    }

    /// The last predicted state again, now that the output there (`seen`) is known.
    fn correct(&self, levels: &[Level], outputs: &[Row], seen: Row) -> Row {
        let solve = |matrix: &Moments| match outputs.len() {
            1 => vec![0.5],
            more => matrix.weights(more),
        };
        self.advance(levels, outputs, slot(LAST_STATE), Some(seen), solve)
    }

    /// The exponential integrator that both share: the first-order step, less α·B(h) (or σ·B(h))
    /// times the weighted differences of the other outputs from the newest.
    fn advance(
        &self,
        levels: &[Level],
        outputs: &[Row],
        state: Row,
        seen: Option<Row>,
        solve: impl Fn(&Moments) -> Vec<f64>,
    ) -> Row {
        let (to, at) = (levels[levels.len() - 1], levels[levels.len() - 2]);
        let h = to.lambda - at.lambda;
        let hh = if self.data { -h } else { h };
        let (scale, kept) = if self.data {
            (to.alpha, to.sigma / at.sigma)
        } else {
            (to.sigma, to.alpha / at.alpha)
        };
        let by = if self.exponential { hh.exp_m1() } else { hh };
        let older = levels.iter().rev().skip(2);
        let ratios: Vec<f64> = older.map(|level| (level.lambda - at.lambda) / h).collect();
        let weights = solve(&Moments {
            ratios: ratios.clone(),
            hh,
            by,
        });
        let mut terms = vec![(kept, state), (-scale * hh.exp_m1(), outputs[0])];
        let differences = outputs[1..]
            .iter()
            .zip(&ratios)
            .map(|(output, ratio)| (*output, *ratio));
        let differences = differences.chain(seen.map(|seen| (seen, 1.0)));
        for ((output, ratio), weight) in differences.zip(weights) {
            let factor = -scale * by * weight / ratio;
            terms.extend([(factor, output), (-factor, outputs[0])]);
        }
        sum(&terms)
    }
}

/// The conditions that make a combination of outputs exact for polynomials: Σ ρ_k r_k^(i−1) = b_i.
struct Moments {
    /// r_k of the older outputs; the predicted point's own r is 1.
    ratios: Vec<f64>,
    hh: f64,
    by: f64,
}

impl Moments {
    /// The first `count` weights, from the first `count` conditions.
    fn weights(&self, count: usize) -> Vec<f64> {
        let ratios: Vec<f64> = self
            .ratios
            .iter()
            .copied()
            .chain(std::iter::once(1.0))
            .take(count)
            .collect();
        let (mut phi, mut factorial) = (self.hh.exp_m1() / self.hh - 1.0, 1.0);
        let mut system = Vec::with_capacity(count);
        for power in 0..count {
            let mut row: Vec<f64> = ratios.iter().map(|r| r.powi(power as i32)).collect();
            row.push(phi * factorial / self.by);
            system.push(row);
            factorial *= power as f64 + 2.0;
            phi = phi / self.hh - 1.0 / factorial;
        }
        solve_linear(system)
    }
}

/// Gaussian elimination with row exchange on `count` rows of `count + 1` numbers. A singular system
/// gives numbers that are not finite, which the finished table is checked for.
fn solve_linear(mut system: Vec<Vec<f64>>) -> Vec<f64> {
    let count = system.len();
    for column in 0..count {
        let largest = (column..count).max_by(|a, b| {
            system[*a][column]
                .abs()
                .total_cmp(&system[*b][column].abs())
        });
        system.swap(column, largest.unwrap_or(column));
        let pivot = system[column].clone();
        for (row, numbers) in system.iter_mut().enumerate() {
            if row != column {
                let factor = numbers[column] / pivot[column];
                for (number, from) in numbers.iter_mut().zip(&pivot) {
                    *number -= factor * from;
                }
            }
        }
    }
    (0..count)
        .map(|row| system[row][count] / system[row][row])
        .collect()
}

/// Timesteps, and noise-to-signal ratios with the final one appended, in single precision.
fn grid(options: &Options, steps: usize) -> Result<(Vec<f64>, Vec<f64>), SamplerError> {
    let curves = [
        ("use_karras_sigmas", Curve::Karras),
        ("use_exponential_sigmas", Curve::Exponential),
        ("use_beta_sigmas", Curve::Beta),
    ];
    let curve = Curve::read(options, &curves)?;
    let schedule = schedule(options)?;
    let train = TrainSigmas::new(&schedule, zero_terminal_snr(options)?);
    let count = train_timesteps(options)?;
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "linspace")?;
    let mut points = solver_timesteps(spacing, count, count, steps, offset);
    let mut sigma_min = f64::from(train.sigmas[0]);
    let mut sigmas = match along(curve, &train, sigma_ends(options, &train)?, steps) {
        None => points.iter().map(|point| train.at(*point)).collect(),
        Some(levels) => {
            let told = |sigma: &f64| match curve {
                Curve::Karras => train.timestep_of(*sigma).round_ties_even(),
                Curve::Schedule | Curve::Exponential | Curve::Beta | Curve::Lu => {
                    train.timestep_of(*sigma).trunc()
                }
            };
            points = levels.iter().map(told).collect();
            // A curve's own end is its least noise here, so that the last step stands still.
            sigma_min = levels.last().copied().unwrap_or(sigma_min);
            levels
        }
    };
    let finals = [("zero", 0.0), ("sigma_min", sigma_min)];
    sigmas.push(options.choice("final_sigmas_type", "zero", &finals)?);
    Ok((
        points,
        sigmas
            .into_iter()
            .map(|sigma| f64::from(sigma as f32))
            .collect(),
    ))
}
