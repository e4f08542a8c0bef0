//! Noise levels of a variance-preserving state, as the multistep solvers see them (spec 4.4).
//!
//! Takes ratios of noise to signal and the network's kind of output, gives what DPM-Solver and
//! UniPC share: λ, and the output converted to what they integrate. It never orders steps.

use compiler::program::sampler::{Limit, Row};

use super::error::SamplerError;
use super::options::Options;
use super::prediction::PredictionType;
use super::row::{X, limited, sum};
use super::sigmas::TrainSigmas;

/// One noise level of a variance-preserving state.
#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) alpha: f64,
    pub(super) sigma: f64,
    /// Half the log signal-to-noise ratio, ln α − ln σ; infinite at σ = 0.
    pub(super) lambda: f64,
}

impl Level {
    /// From the ratio of noise to signal.
    pub(super) fn new(ratio: f64) -> Level {
        let alpha = 1.0 / ratio.hypot(1.0);
        Level {
            alpha,
            sigma: ratio * alpha,
            lambda: -ratio.ln(),
        }
    }
}

/// The clean estimate before any limit, and what the solver integrates: the limited estimate, or
/// ε, which is found back from the estimate once that is limited.
pub(super) fn convert(
    data: bool,
    prediction: PredictionType,
    at: Level,
    limit: Limit,
) -> (Row, Row) {
    let estimate = prediction.clean(at.alpha, at.sigma);
    let converted = match (data, limit) {
        (true, _) => limited(estimate, limit),
        (false, Limit::None) => prediction.noise(at.alpha, at.sigma),
        (false, Limit::Clip { .. } | Limit::Threshold { .. }) => {
            let clean = limited(estimate, limit);
            sum(&[(1.0 / at.sigma, X), (-at.alpha / at.sigma, clean)])
        }
    };
    (estimate, converted)
}

/// The ends of the curves over σ: those of the schedule unless given.
pub(super) fn sigma_ends(
    options: &Options,
    train: &TrainSigmas,
) -> Result<(f64, f64), SamplerError> {
    let (largest, smallest) = train.ends();
    Ok((
        options.number("sigma_max", largest)?,
        options.number("sigma_min", smallest)?,
    ))
}
