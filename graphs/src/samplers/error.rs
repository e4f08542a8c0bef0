//! What can be wrong with a sampler's configuration or its number of steps.

use thiserror::Error;

use crate::noise_schedule::NoiseScheduleError;

/// Why no sampler table can be made. Every variant names the option or the number at fault.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SamplerError {
    /// The configuration is not JSON.
    #[error("the sampler configuration is not JSON: {reason}")]
    Json {
        /// What the reader met, with line and column.
        reason: String,
    },
    /// The configuration's class is missing, or none that this crate has.
    #[error("the sampler class {class:?} is not supported, wanted one of {}", known.join(", "))]
    Class {
        /// `_class_name` as found; empty when missing.
        class: String,
        /// Classes that are supported.
        known: Vec<&'static str>,
    },
    /// A sampler was asked for by a name that does not exist.
    #[error("there is no sampler {name:?}, wanted one of {}", known.join(", "))]
    Name {
        /// The name as given.
        name: String,
        /// Names that exist.
        known: Vec<&'static str>,
    },
    /// The sampler has no such option.
    #[error("sampler {sampler} has no option {option:?}")]
    Option {
        /// Sampler asked for.
        sampler: &'static str,
        /// Option as given.
        option: String,
    },
    /// The option exists in the sampler's configuration, but cannot change its results.
    #[error("option {option} has no effect on sampler {sampler}")]
    NoEffect {
        /// Sampler asked for.
        sampler: &'static str,
        /// Option as given.
        option: String,
    },
    /// An option's value has the wrong type or range.
    #[error("option {option} of sampler {sampler} is {found}, wanted {wanted}")]
    Value {
        /// Sampler asked for.
        sampler: &'static str,
        /// Option at fault.
        option: &'static str,
        /// Its value as JSON.
        found: String,
        /// What is accepted.
        wanted: String,
    },
    /// Two options exclude each other.
    #[error("options {first} and {second} exclude each other")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The number of steps does not suit the sampler.
    #[error("{found} steps were asked of sampler {sampler}, wanted {min} to {max}")]
    Steps {
        /// Sampler asked for.
        sampler: &'static str,
        /// Steps asked for.
        found: usize,
        /// Fewest that work.
        min: usize,
        /// Most that work.
        max: usize,
    },
    /// Spacing and offset together leave the training schedule.
    #[error("step {step} of sampler {sampler} falls on timestep {timestep}, wanted 0 to {max}")]
    Timestep {
        /// Sampler asked for.
        sampler: &'static str,
        /// Step at fault, from 0.
        step: usize,
        /// Timestep it would use.
        timestep: f64,
        /// Last timestep of the schedule.
        max: usize,
    },
    /// A coefficient is infinite or undefined: two steps share one noise level, or the prediction
    /// type cannot be inverted where no signal is left.
    #[error("step {step} of sampler {sampler} at timestep {timestep} has no finite coefficients")]
    NotFinite {
        /// Sampler asked for.
        sampler: &'static str,
        /// Step at fault, from 0.
        step: usize,
        /// Its timestep.
        timestep: f64,
    },
    /// The noise schedule is impossible.
    #[error(transparent)]
    NoiseSchedule(#[from] NoiseScheduleError),
}
