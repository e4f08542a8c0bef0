//! What can be wrong with a sampler's configuration or its number of steps.

use std::fmt;

use serde_json::Value;
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
    #[error("the sampler class {class:?} is not supported, wanted one of {}", sorted(known).join(", "))]
    Class {
        /// `_class_name` as found; empty when missing.
        class: String,
        /// Classes that are supported, in any order.
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
    #[error("option {option} of sampler {sampler} is {}, wanted {wanted}", excerpt(found.as_ref()))]
    Value {
        /// Sampler asked for.
        sampler: &'static str,
        /// Option at fault.
        option: &'static str,
        /// Its value, if it has one.
        found: Option<Value>,
        /// What is accepted.
        wanted: Wanted,
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

/// What a sampler accepts as the value of an option. It becomes words only where they are read: a
/// page that has its own sentences carries none of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// What the words say.
    Words(&'static str),
    /// One number.
    Number {
        /// The number.
        number: f64,
    },
    /// A number within bounds, both included.
    Between {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// A whole number from 1.
    Count {
        /// The greatest.
        max: usize,
    },
    /// An order, or a count of windows, from 1.
    Order {
        /// The greatest.
        max: usize,
    },
    /// One of several words.
    OneOf(Vec<String>),
    /// So much that one timestep is left.
    Kept {
        /// Timesteps before.
        of: usize,
    },
    /// Timesteps from noisy to clean.
    Timesteps {
        /// Whether fractions are refused.
        whole: bool,
        /// The greatest.
        last: f64,
    },
}

impl From<&'static str> for Wanted {
    fn from(words: &'static str) -> Wanted {
        Wanted::Words(words)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Words(words) => f.write_str(words),
            Wanted::Number { number } => write!(f, "{number}"),
            Wanted::Between { min, max } => write!(f, "a number from {min} to {max}"),
            Wanted::Count { max } => write!(f, "a whole number from 1 to {max}"),
            Wanted::Order { max } => write!(f, "1 to {max}"),
            Wanted::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Wanted::Kept { of } => write!(f, "enough to keep one of {of} timesteps"),
            Wanted::Timesteps { whole, last } => {
                let whole = if *whole { "whole " } else { "" };
                write!(
                    f,
                    "{whole}timesteps that fall, from at most {last} to at least 0"
                )
            }
        }
    }
}

/// Words in the order of the alphabet, each once.
fn sorted(words: &[&'static str]) -> Vec<&'static str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words.dedup();
    words
}

/// A value as JSON, cut to a length that a message can bear.
fn excerpt(value: Option<&Value>) -> String {
    /// Characters shown.
    const SHOWN: usize = 60;
    let Some(value) = value else {
        return "absent".to_owned();
    };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
