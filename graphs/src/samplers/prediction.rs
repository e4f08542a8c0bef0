//! What a network's output means.
//!
//! Takes options, returns the meaning; takes coefficients of signal and noise, returns rows of
//! clean latents and of noise.

use compiler::program::sampler::Row;

use super::error::SamplerError;
use super::options::Options;
use super::row::{OUTPUT, X, sum};

/// What a network's output means (spec 0.3), with x = α·x0 + σ·ε.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise ε.
    Epsilon,
    /// The velocity α·ε − σ·x0.
    VPrediction,
    /// The clean latents x0.
    Sample,
}

impl PredictionType {
    pub(super) fn read(options: &Options) -> Result<PredictionType, SamplerError> {
        let meanings = [
            ("epsilon", PredictionType::Epsilon),
            ("v_prediction", PredictionType::VPrediction),
            ("sample", PredictionType::Sample),
        ];
        options.choice("prediction_type", "epsilon", &meanings)
    }

    /// As [`PredictionType::read`], for the samplers that have no formula for clean latents.
    pub(super) fn read_noisy(options: &Options) -> Result<PredictionType, SamplerError> {
        match PredictionType::read(options)? {
            PredictionType::Sample => {
                Err(options.wrong("prediction_type", "epsilon or v_prediction"))
            }
            noisy @ (PredictionType::Epsilon | PredictionType::VPrediction) => Ok(noisy),
        }
    }

    /// x0 from state and output, where the state holds α of signal and σ of noise, α² + σ² = 1.
    pub(super) fn clean(self, alpha: f64, sigma: f64) -> Row {
        match self {
            PredictionType::Epsilon => sum(&[(1.0 / alpha, X), (-sigma / alpha, OUTPUT)]),
            PredictionType::VPrediction => sum(&[(alpha, X), (-sigma, OUTPUT)]),
            PredictionType::Sample => OUTPUT,
        }
    }

    /// ε from state and output.
    pub(super) fn noise(self, alpha: f64, sigma: f64) -> Row {
        match self {
            PredictionType::Epsilon => OUTPUT,
            PredictionType::VPrediction => sum(&[(sigma, X), (alpha, OUTPUT)]),
            PredictionType::Sample => sum(&[(1.0 / sigma, X), (-alpha / sigma, OUTPUT)]),
        }
    }
}
