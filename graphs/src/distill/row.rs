//! Rows: what is linear in a state and a network's output, with numbers per sample.
//!
//! Takes signal and noise factors and what an output means, gives the two numbers of a row in f64
//! and its nodes. It knows no method.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Value};
use compiler::ops::{Add, Mul, Reshape};
use compiler::value::dim::Dim;
use compiler::value::tensor::Tensor;

use super::error::DistillError;
use crate::noise_schedule::NoiseSchedule;
use crate::samplers::PredictionType;

/// Numbers for the inputs of a step, by name.
pub type Numbers = BTreeMap<String, Tensor>;

/// `numbers` as the input `[batch]` of a step.
pub(super) fn vector(numbers: &[f64]) -> Tensor {
    let narrow: Vec<f32> = numbers.iter().map(|&number| number as f32).collect();
    Tensor::from_f32(&[narrow.len()], &narrow)
}

/// A timestep with its factors of signal and noise: `x = alpha·x0 + sigma·epsilon`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// What the network is fed.
    pub timestep: usize,
    /// The factor of the clean latents.
    pub alpha: f64,
    /// The factor of the noise.
    pub sigma: f64,
}

impl Point {
    /// The point at `timestep`; none beyond the schedule.
    pub fn of(schedule: &NoiseSchedule, timestep: usize) -> Option<Point> {
        let (alpha, sigma) = schedule.signal_and_noise(timestep)?;
        Some(Point {
            timestep,
            alpha,
            sigma,
        })
    }
}

/// `state·x + output·o` for a state x and a network's output o there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) state: f64,
    pub(crate) output: f64,
}

impl Row {
    /// The state itself.
    pub(super) const STAY: Row = Row {
        state: 1.0,
        output: 0.0,
    };

    /// `a·self + b·other`.
    fn mix(self, a: f64, other: Row, b: f64) -> Row {
        Row {
            state: a * self.state + b * other.state,
            output: a * self.output + b * other.output,
        }
    }
}

/// The clean latents of a state with `alpha` of signal and `sigma` of noise, whose squares need not
/// add up to 1 (spec 0.3; for velocities spec 1.11 a, in which a network means
/// `alpha·epsilon − sigma·x0`).
pub(super) fn clean(prediction: PredictionType, alpha: f64, sigma: f64) -> Row {
    let (state, output) = match prediction {
        PredictionType::Epsilon => (1.0 / alpha, -sigma / alpha),
        PredictionType::VPrediction => {
            let variance = alpha * alpha + sigma * sigma;
            (alpha / variance, -sigma / variance)
        }
        PredictionType::Sample => (0.0, 1.0),
    };
    Row { state, output }
}

/// The noise of a state with `alpha` of signal and `sigma` of noise (spec 0.3).
fn noise(prediction: PredictionType, alpha: f64, sigma: f64) -> Row {
    let (state, output) = match prediction {
        PredictionType::Epsilon => (0.0, 1.0),
        PredictionType::VPrediction => (sigma, alpha),
        PredictionType::Sample => (1.0 / sigma, -alpha / sigma),
    };
    Row { state, output }
}

/// One DDIM step `alpha_to·x0 + sigma_to·epsilon` (arXiv 2010.02502, eq. 12 without noise).
/// Guidance may act on the output: clean latents and noise are affine in it.
pub(crate) fn ddim(prediction: PredictionType, from: Point, to: Point) -> Row {
    let x0 = clean(prediction, from.alpha, from.sigma);
    x0.mix(
        to.alpha,
        noise(prediction, from.alpha, from.sigma),
        to.sigma,
    )
}

/// A step of DPM-Solver++(2M) from the second of three points to the third: its row, and the factor
/// of the clean latents at the first (spec 4.4: order 2, midpoint).
pub(super) fn dpm_2m(prediction: PredictionType, [before, from, to]: [Point; 3]) -> (Row, f64) {
    let log_snr = |point: Point| (point.alpha / point.sigma).ln();
    let h = log_snr(to) - log_snr(from);
    let h_before = log_snr(from) - log_snr(before);
    // e^(−h) − 1, which is −1 from a point without signal.
    let decay = to.sigma * from.alpha / (to.alpha * from.sigma) - 1.0;
    let share = 0.5 * h / h_before;
    let x0 = clean(prediction, from.alpha, from.sigma);
    let row = Row {
        state: to.sigma / from.sigma,
        output: 0.0,
    };
    let step = to.alpha * decay;
    (row.mix(1.0, x0, -step * (1.0 + share)), step * share)
}

/// The consistency function `c_skip·x + c_out·x0` of a state with `sigma` of noise at `point`; at
/// timestep 0 exactly the state (spec 1.7).
pub(crate) fn consistency(prediction: PredictionType, point: Point, sigma: f64) -> Row {
    let (skip, out) = boundary(point);
    Row::STAY.mix(skip, clean(prediction, point.alpha, sigma), out)
}

/// As [`consistency`], of a network that is fed the state divided by `norm`, which makes signal and
/// noise the parts of a state of the schedule.
pub(super) fn consistency_of_scaled(
    prediction: PredictionType,
    point: Point,
    sigma: f64,
    norm: f64,
) -> Row {
    let fed = clean(prediction, point.alpha / norm, sigma / norm);
    let x0 = Row {
        state: fed.state / norm,
        output: fed.output,
    };
    let (skip, out) = boundary(point);
    Row::STAY.mix(skip, x0, out)
}

/// The factors of the state and of the clean latents at a point (spec 1.7).
fn boundary(point: Point) -> (f64, f64) {
    /// The scale of timesteps that released models were distilled with.
    const TIMESTEP_SCALING: f64 = 10.0;
    crate::samplers::lcm_boundary(point.timestep as f64, TIMESTEP_SCALING)
}

/// What a network `who` is fed and how its output is read, each `[batch]`: `<who>.timestep`,
/// `<who>.state` and `<who>.output` of the consistency function at points with their noise.
pub(super) fn at_points(
    who: &str,
    prediction: PredictionType,
    points: impl Iterator<Item = (Point, f64)>,
) -> Numbers {
    let (mut timesteps, mut states, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (point, sigma) in points {
        let row = consistency(prediction, point, sigma);
        timesteps.push(point.timestep as f64);
        states.push(row.state);
        outputs.push(row.output);
    }
    Numbers::from([
        (format!("{who}.timestep"), vector(&timesteps)),
        (format!("{who}.state"), vector(&states)),
        (format!("{who}.output"), vector(&outputs)),
    ])
}

/// `numbers` `[batch]` as a factor of images: `[batch, 1, 1, 1]`.
pub(super) fn per_image(builder: &mut Builder, numbers: Value) -> Result<Value, DistillError> {
    let mut shape = vec![builder.ty(numbers).shape[0].clone()];
    shape.resize(4, Dim::from(1));
    Ok(builder.push(Reshape { shape }, &[numbers])?)
}

/// `a·x + b·y` of images, with one number `[batch]` per sample.
pub(super) fn combine(
    builder: &mut Builder,
    [a, b]: [Value; 2],
    [x, y]: [Value; 2],
) -> Result<Value, DistillError> {
    let a = per_image(builder, a)?;
    let b = per_image(builder, b)?;
    let x = builder.push(Mul, &[a, x])?;
    let y = builder.push(Mul, &[b, y])?;
    Ok(builder.push(Add, &[x, y])?)
}
