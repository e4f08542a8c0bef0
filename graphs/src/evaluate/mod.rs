//! Evaluation: how good pictures and samplers are, as formulae in f64.
//!
//! Takes features of pictures, embeddings and states, all as plain numbers; returns distances and
//! scores. It runs no network, reads no file and draws nothing at random: which samples belong to a
//! subset is decided by its caller.

mod frechet;
mod kernel;
mod moments;
mod pairs;
mod tables;

use thiserror::Error;

pub use frechet::frechet_distance;
pub use kernel::{KernelDistance, kernel_distance};
pub use moments::{Gaussian, Moments};
pub use pairs::{cosine, mean_pairwise_distance};
pub use tables::{consistency_function, ddim_path, noising};

/// Features of samples: `count` rows of `width` numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    width: usize,
    values: Vec<f32>,
}

impl Features {
    /// No sample yet, of `width` features each.
    pub fn new(width: usize) -> Features {
        Features {
            width,
            values: Vec::new(),
        }
    }

    /// Adds samples: `values` holds whole rows.
    ///
    /// # Errors
    /// When the last row is cut, or a number is NaN or infinite.
    pub fn push(&mut self, values: &[f32]) -> Result<(), EvaluateError> {
        check_rows(values, self.width, self.count())?;
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// The number of samples.
    pub fn count(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// The number of features of a sample.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of one sample.
    ///
    /// # Panics
    /// When there is no such sample: the caller knows how many there are.
    pub fn row(&self, sample: usize) -> &[f32] {
        &self.values[sample * self.width..][..self.width]
    }
}

/// Refuses rows that are cut or hold what is not a number; `before` samples came earlier.
fn check_rows(values: &[f32], width: usize, before: usize) -> Result<(), EvaluateError> {
    if width == 0 || !values.len().is_multiple_of(width) {
        return Err(EvaluateError::Width {
            found: values.len(),
            wanted: width,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(place) => Err(EvaluateError::NotFinite {
            what: "the features of sample",
            number: before + place / width,
        }),
        None => Ok(()),
    }
}

/// Why something cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluateError {
    /// Two sets have different numbers of features.
    #[error("found {found} features; expected {wanted} as in the other set")]
    Width {
        /// What was found.
        found: usize,
        /// What the other one has.
        wanted: usize,
    },
    /// There are too few samples for an estimate.
    #[error("found {found} samples; expected at least {wanted}")]
    Few {
        /// What was found.
        found: usize,
        /// The fewest.
        wanted: usize,
    },
    /// A number is NaN or infinite.
    #[error("{what} {number} are not finite numbers")]
    NotFinite {
        /// Whose numbers.
        what: &'static str,
        /// Which one.
        number: usize,
    },
    /// A covariance that no distribution has.
    #[error("the covariance is not symmetric and positive: {reason}")]
    Covariance {
        /// Where.
        reason: String,
    },
    /// A timestep that the noise schedule does not have.
    #[error("timestep {timestep} is not one of the noise schedule, which has {length}")]
    Timestep {
        /// The timestep.
        timestep: usize,
        /// Timesteps of the schedule.
        length: usize,
    },
}
