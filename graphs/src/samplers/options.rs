//! Typed reading of a sampler's options.
//!
//! Takes the values given in a configuration, gives numbers, switches and choices, or an error that
//! names option, value and what was wanted. `null` counts as absent. It never reads an option that
//! its sampler does not list.

use compiler::program::sampler::SamplerTable;
use serde_json::Value;

use super::error::{SamplerError, Wanted};
use super::given::Given;

/// Options that every sampler reads.
pub(super) const SCHEDULE_OPTIONS: &[&str] = &[
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
];

/// A sampler: its name, the options it has, and the function that writes its rows.
pub(super) struct Sampler {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// Class in diffusers' configuration files.
    pub(super) class: &'static str,
    /// Options it reads besides those of the noise schedule.
    pub(super) options: &'static [&'static str],
    /// Options that its class has in diffusers and that change nothing.
    pub(super) inert: &'static [&'static str],
    /// Options that the name implies unless a value was taken over.
    pub(super) defaults: &'static [(&'static str, Preset)],
    /// Options that the name fixes.
    pub(super) forced: &'static [(&'static str, Preset)],
    /// Writes the table for a number of steps that is already known to be 1..=training timesteps.
    pub(super) rows: fn(&Options, usize) -> Result<SamplerTable, SamplerError>,
}

impl Sampler {
    pub(super) fn reads(&self, option: &str) -> bool {
        SCHEDULE_OPTIONS.contains(&option) || self.options.contains(&option)
    }

    pub(super) fn knows(&self, option: &str) -> bool {
        self.reads(option) || self.inert.contains(&option)
    }
}

/// A value that a sampler's name brings along.
pub(super) enum Preset {
    Word(&'static str),
    Count(usize),
    On,
}

impl Preset {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Preset::Word(word) => Value::from(*word),
            Preset::Count(count) => Value::from(*count),
            Preset::On => Value::Bool(true),
        }
    }
}

/// A sampler and the options given to it.
pub(super) struct Options<'a> {
    pub(super) sampler: &'static Sampler,
    pub(super) given: &'a Given,
}

impl Options<'_> {
    /// A number; the words `Infinity` and `-Infinity` are numbers too.
    pub(super) fn number(&self, option: &'static str, default: f64) -> Result<f64, SamplerError> {
        Ok(self.optional_number(option)?.unwrap_or(default))
    }

    pub(super) fn optional_number(
        &self,
        option: &'static str,
    ) -> Result<Option<f64>, SamplerError> {
        let number = match self.value(option) {
            None => return Ok(None),
            Some(Value::String(word)) => match word.as_str() {
                "Infinity" | "inf" => Some(f64::INFINITY),
                "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            Some(other) => other.as_f64(),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(option, "a number")),
        }
    }

    /// A number within bounds, both included.
    pub(super) fn number_within(
        &self,
        option: &'static str,
        default: f64,
        (min, max): (f64, f64),
    ) -> Result<f64, SamplerError> {
        let number = self.number(option, default)?;
        if (min..=max).contains(&number) {
            Ok(number)
        } else {
            Err(self.wrong(option, Wanted::Between { min, max }))
        }
    }

    /// A whole number that is not negative, also when written as `1000.0`.
    pub(super) fn count(
        &self,
        option: &'static str,
        default: usize,
    ) -> Result<usize, SamplerError> {
        /// Beyond this no option that counts something has a meaning.
        const COUNT_MAX: f64 = 1e9;
        let Some(number) = self.optional_number(option)? else {
            return Ok(default);
        };
        if number.fract() == 0.0 && (0.0..=COUNT_MAX).contains(&number) {
            Ok(number as usize)
        } else {
            Err(self.wrong(option, "a whole number"))
        }
    }

    pub(super) fn flag(&self, option: &'static str, default: bool) -> Result<bool, SamplerError> {
        match self.value(option) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(option, "true or false")),
        }
    }

    /// One of several words, each with its meaning.
    pub(super) fn choice<T: Copy>(
        &self,
        option: &'static str,
        default: &str,
        meanings: &[(&str, T)],
    ) -> Result<T, SamplerError> {
        let word = match self.value(option) {
            None => Some(default),
            Some(value) => value.as_str(),
        };
        let found = meanings.iter().find(|(known, _)| word == Some(known));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known = meanings.iter().map(|(known, _)| (*known).to_owned());
            self.wrong(option, Wanted::OneOf(known.collect()))
        })
    }

    /// A list of numbers, or none.
    pub(super) fn numbers(&self, option: &'static str) -> Result<Option<Vec<f64>>, SamplerError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        let numbers = value
            .as_array()
            .map(|list| list.iter().map(Value::as_f64).collect());
        match numbers {
            Some(Some(numbers)) => Ok(Some(numbers)),
            Some(None) | None => Err(self.wrong(option, "a list of numbers")),
        }
    }

    /// Whether an option has a value at all.
    pub(super) fn is_given(&self, option: &'static str) -> bool {
        self.value(option).is_some()
    }

    /// The error for an option whose value does not do.
    pub(super) fn wrong(&self, option: &'static str, wanted: impl Into<Wanted>) -> SamplerError {
        SamplerError::Value {
            sampler: self.sampler.name,
            option,
            found: self.value(option).cloned(),
            wanted: wanted.into(),
        }
    }

    fn value(&self, option: &'static str) -> Option<&Value> {
        assert!(
            self.sampler.reads(option),
            "{option} is listed by the sampler that reads it"
        );
        self.given.get(option).filter(|value| !value.is_null())
    }
}
