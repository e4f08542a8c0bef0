//! PNDM: linear multistep on ε, after pseudo Runge-Kutta steps unless they are skipped
//! (arXiv 2202.09778, eq. 9, 12 and 13, algorithm 2; spec 4.2).
//!
//! History: three earlier outputs in a ring, the state that a repeated evaluation starts from, and
//! the Runge-Kutta sum. Outputs are kept as the network gave them; a velocity is turned into ε only
//! after they are combined, at the timestep of the transfer, as diffusers does.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable, Store};

use super::error::SamplerError;
use super::options::{Options, Preset, Sampler};
use super::prediction::PredictionType;
use super::row::{OUTPUT, X, ZERO, slot, sum};
use super::schedule::train_timesteps;
use super::schedule::{alpha_bar, expect_steps, schedule};
use super::spacing::{Spacing, timesteps};
use crate::noise_schedule::NoiseSchedule;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "pndm",
    class: "PNDMScheduler",
    options: &[
        "set_alpha_to_one",
        "skip_prk_steps",
        "steps_offset",
        "timestep_spacing",
    ],
    inert: &[],
    // What Stable Diffusion means by PNDM; the class itself starts with Runge-Kutta steps.
    defaults: &[("skip_prk_steps", Preset::On)],
    forced: &[],
    rows,
};

/// Outputs of earlier steps, a ring of three.
const RING: usize = 3;
/// The state before the first of several evaluations for one step.
const STATE: usize = 3;
/// The Runge-Kutta sum so far.
const RUNGE_KUTTA_SUM: usize = 4;
/// Evaluations of one Runge-Kutta step, and Runge-Kutta steps of one run.
const RUNGE_KUTTA: usize = 4;

/// Schedule and prediction type, with which ε moves a state from one timestep to another.
struct Transfer<'a> {
    options: &'a Options<'a>,
    schedule: NoiseSchedule,
    prediction: PredictionType,
    final_bar: f64,
}

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let train = train_timesteps(options)?;
    let final_bar = if options.flag("set_alpha_to_one", false)? {
        1.0
    } else {
        alpha_bar(options, &schedule, 0, 0.0)?
    };
    let prediction = PredictionType::read_noisy(options)?;
    let offset = options.count("steps_offset", 0)? as f64;
    let spacing = Spacing::read(options, "leading")?;
    let mut points = timesteps(spacing, train, steps, offset);
    points
        .iter_mut()
        .for_each(|timestep| *timestep = timestep.round_ties_even());
    let transfer = Transfer {
        options,
        schedule,
        prediction,
        final_bar,
    };
    let stride = (train / steps) as f64;
    let steps = if options.flag("skip_prk_steps", false)? {
        multistep_after_repeat(&transfer, &points, stride)?
    } else {
        expect_steps(options, steps, RUNGE_KUTTA, train)?;
        let half = (train / steps / 2) as f64;
        let mut table = runge_kutta(&transfer, &points[..RUNGE_KUTTA], half)?;
        for (number, &timestep) in points[RUNGE_KUTTA - 1..].iter().enumerate() {
            table.push(transfer.multistep(table.len(), number + RING, timestep, stride)?);
        }
        table
    };
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: 5,
        steps,
    })
}

/// PLMS: the first step is done twice, the second time from the average of both outputs.
fn multistep_after_repeat(
    transfer: &Transfer,
    points: &[f64],
    stride: f64,
) -> Result<Vec<SamplerStep>, SamplerError> {
    let mut table = Vec::with_capacity(points.len() + 1);
    for (number, &timestep) in points.iter().enumerate() {
        let mut numbers = transfer.multistep(table.len(), number, timestep, stride)?;
        if number == 0 {
            numbers.stores.push(Store {
                slot: STATE,
                row: X,
            });
        }
        table.push(numbers);
        if number == 1 {
            // The second point comes twice: here it corrects the first step.
            let average = sum(&[(0.5, OUTPUT), (0.5, slot(0))]);
            let next = transfer.row(1, slot(STATE), average, timestep + stride, timestep)?;
            let (estimate, stores) = (transfer.estimate(1, timestep)?, Vec::new());
            table.insert(1, step(timestep, estimate, next, stores));
        }
    }
    Ok(table)
}

/// Runge-Kutta over the first three intervals: at both ends and twice in the middle.
fn runge_kutta(
    transfer: &Transfer,
    points: &[f64],
    half: f64,
) -> Result<Vec<SamplerStep>, SamplerError> {
    /// Weight of each of the four evaluations.
    const WEIGHTS: [f64; RUNGE_KUTTA] = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0];
    let mut table = Vec::new();
    for (number, pair) in points.windows(2).enumerate() {
        let (from, to) = (pair[0], pair[1]);
        // diffusers lays the midpoint half a stride above the interval's end.
        let seen_at = [from, to + half, to + half, to];
        let reached = [from - half, to + half, to, to];
        for (part, weight) in WEIGHTS.into_iter().enumerate() {
            let total = sum(&[(1.0, slot(RUNGE_KUTTA_SUM)), (weight, OUTPUT)]);
            let start = if part == 0 { X } else { slot(STATE) };
            let moved_by = if part + 1 == RUNGE_KUTTA {
                total
            } else {
                OUTPUT
            };
            let at = table.len();
            let next = transfer.row(at, start, moved_by, from, reached[part])?;
            let mut stores = vec![Store {
                slot: RUNGE_KUTTA_SUM,
                row: if part + 1 == RUNGE_KUTTA { ZERO } else { total },
            }];
            if part == 0 {
                stores.push(Store {
                    slot: STATE,
                    row: X,
                });
                stores.push(Store {
                    slot: number % RING,
                    row: OUTPUT,
                });
            }
            let estimate = transfer.estimate(at, seen_at[part])?;
            table.push(step(seen_at[part], estimate, next, stores));
        }
    }
    Ok(table)
}

impl Transfer<'_> {
    /// A step of the highest order that `number` earlier outputs allow, at most four.
    fn multistep(
        &self,
        at: usize,
        number: usize,
        timestep: f64,
        stride: f64,
    ) -> Result<SamplerStep, SamplerError> {
        let earlier = |age: usize| slot((number + RING - age) % RING);
        let output = match number {
            0 => OUTPUT,
            1 => sum(&[(1.5, OUTPUT), (-0.5, earlier(1))]),
            2 => {
                let weights = [23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0];
                sum(&[
                    (weights[0], OUTPUT),
                    (weights[1], earlier(1)),
                    (weights[2], earlier(2)),
                ])
            }
            _ => sum(&[
                (55.0 / 24.0, OUTPUT),
                (-59.0 / 24.0, earlier(1)),
                (37.0 / 24.0, earlier(2)),
                (-9.0 / 24.0, earlier(3)),
            ]),
        };
        let next = self.row(at, X, output, timestep, timestep - stride)?;
        let stores = vec![Store {
            slot: number % RING,
            row: OUTPUT,
        }];
        Ok(step(timestep, self.estimate(at, timestep)?, next, stores))
    }

    /// `state` moved from timestep `from` to `to` along the combined output (eq. 9).
    fn row(
        &self,
        at: usize,
        state: Row,
        output: Row,
        from: f64,
        to: f64,
    ) -> Result<Row, SamplerError> {
        let bar = alpha_bar(self.options, &self.schedule, at, from)?;
        let bar_to = if to >= 0.0 {
            alpha_bar(self.options, &self.schedule, at, to)?
        } else {
            self.final_bar
        };
        let epsilon = match self.prediction {
            PredictionType::VPrediction => {
                sum(&[(bar.sqrt(), output), ((1.0 - bar).sqrt(), state)])
            }
            PredictionType::Epsilon | PredictionType::Sample => output,
        };
        let denominator = bar * (1.0 - bar_to).sqrt() + (bar * (1.0 - bar) * bar_to).sqrt();
        Ok(sum(&[
            ((bar_to / bar).sqrt(), state),
            ((bar - bar_to) / denominator, epsilon),
        ]))
    }

    fn estimate(&self, at: usize, timestep: f64) -> Result<Row, SamplerError> {
        let bar = alpha_bar(self.options, &self.schedule, at, timestep)?;
        Ok(self.prediction.clean(bar.sqrt(), (1.0 - bar).sqrt()))
    }
}

fn step(timestep: f64, estimate: Row, next: Row, stores: Vec<Store>) -> SamplerStep {
    SamplerStep {
        timestep,
        input_scale: 1.0,
        draw: None,
        estimate,
        limit: Limit::None,
        next,
        stores,
    }
}
