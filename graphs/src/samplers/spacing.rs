//! Which training timesteps a run visits (spec 4.0).
//!
//! Takes a spacing rule and a number of steps, gives timesteps from noisy to clean. Follows numpy's
//! `linspace`, `arange` and `round` as diffusers calls them, to the last bit. It never searches.

use super::error::SamplerError;
use super::options::Options;

/// How timesteps are spread over the training schedule (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Both ends included.
    Linspace,
    /// Whole strides from timestep 0, plus an offset.
    Leading,
    /// Strides down from the last timestep.
    Trailing,
}

impl Spacing {
    pub(super) fn read(options: &Options, default: &str) -> Result<Spacing, SamplerError> {
        let rules = [
            ("linspace", Spacing::Linspace),
            ("leading", Spacing::Leading),
            ("trailing", Spacing::Trailing),
        ];
        options.choice("timestep_spacing", default, &rules)
    }
}

/// numpy's `linspace`; with `endpoint` false the stop is left out.
pub(super) fn linspace(start: f64, stop: f64, count: usize, endpoint: bool) -> Vec<f64> {
    let intervals = if endpoint {
        count.saturating_sub(1)
    } else {
        count
    };
    let step = (stop - start) / intervals.max(1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    if endpoint && count > 1 {
        values[count - 1] = stop;
    }
    values
}

/// Timesteps of DDIM, DDPM, PNDM and Euler before any rounding of the linspace rule.
pub(super) fn timesteps(spacing: Spacing, train: usize, steps: usize, offset: f64) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => reversed(linspace(0.0, train as f64 - 1.0, steps, true)),
        Spacing::Leading => {
            let stride = train / steps;
            (0..steps)
                .rev()
                .map(|i| (i * stride) as f64 + offset)
                .collect()
        }
        Spacing::Trailing => trailing(train, train, steps),
    }
}

/// Timesteps of the multistep solvers: one point more is laid out and the cleanest is dropped.
/// `last` is the number of timesteps that remain after clipping the noisy end.
pub(super) fn solver_timesteps(
    spacing: Spacing,
    train: usize,
    last: usize,
    steps: usize,
    offset: f64,
) -> Vec<f64> {
    let mut points = match spacing {
        Spacing::Linspace => {
            let points = linspace(0.0, last as f64 - 1.0, steps + 1, true);
            reversed(points)
                .into_iter()
                .map(f64::round_ties_even)
                .collect()
        }
        Spacing::Leading => {
            let stride = last / (steps + 1);
            (0..=steps)
                .rev()
                .map(|i| (i * stride) as f64 + offset)
                .collect()
        }
        Spacing::Trailing => trailing(train, last, steps),
    };
    points.truncate(steps);
    points
}

/// Strides of `train / steps` down from `last`, rounded, less one. (For a few step counts, 61
/// among them, numpy's `arange` rounds its way to one more point, −1; that point is left out.)
fn trailing(train: usize, last: usize, steps: usize) -> Vec<f64> {
    let (start, ratio) = (last as f64, train as f64 / steps as f64);
    let step = (start - ratio) - start;
    (0..steps)
        .map(|i| (start + i as f64 * step).round_ties_even() - 1.0)
        .take_while(|timestep| *timestep >= 0.0)
        .collect()
}

fn reversed(mut values: Vec<f64>) -> Vec<f64> {
    values.reverse();
    values
}
