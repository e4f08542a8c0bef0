//! Which sampler a run uses, and its table of numbers.
//!
//! Takes the options and the model's `scheduler_config.json`, returns the sampler and its table.

use compiler::program::pipeline::Pipeline;
use compiler::program::sampler::SamplerTable;
use graphs::samplers::{self, SamplerConfig, SamplerError};
use serde_json::Value;

use crate::error::{At, Failure, FailureKind};
use crate::progress;

use super::arguments::{Arguments, SpacingName};

/// A sampler, its table, and the steps that it was asked for (some make more calls).
pub(crate) struct Schedule {
    pub(crate) config: SamplerConfig,
    pub(crate) table: SamplerTable,
    pub(crate) steps: usize,
}

impl Schedule {
    /// The sampler that the options ask for, or the model's own.
    pub(crate) fn new(arguments: &Arguments, pipeline: &Pipeline) -> Result<Schedule, Failure> {
        let text = pipeline.scheduler.as_ref().ok_or_else(|| {
            Failure::job(format!(
                "{}: there is no scheduler_config.json",
                arguments.model.display()
            ))
            .hint("put the model's scheduler/scheduler_config.json beside its components")
        })?;
        let place = "scheduler_config.json";
        let mut config = SamplerConfig::from_diffusers(text).at(place)?;
        if !config.ignored().is_empty() {
            let ignored = config.ignored();
            progress::warn(format!(
                "{place} has the unknown options {ignored:?}, which are ignored"
            ));
        }
        if let Some(class) = &pipeline.scheduler_class {
            let own = config.class().to_owned();
            config = config.of_index(class);
            if arguments.sampler.is_none() && !own.is_empty() && own != *class {
                let used = config.class();
                progress::warn(format!(
                    "model_index.json names the sampler class {class}, {place} names {own}: {used} \
                     is used; --sampler chooses another one"
                ));
            }
        }
        if let Some(class) = &pipeline.class {
            config = config.in_pipeline(class);
        }
        if let Some(name) = &arguments.sampler {
            config = config.with_sampler(name).at(place)?;
        }
        let name = config.sampler_name().at(place).map_err(|failure| {
            let names: Vec<&str> = samplers::names().collect();
            failure.hint(format!("choose one with --sampler: {}", names.join(", ")))
        })?;
        for (flag, option, value) in options(arguments) {
            config = match (config.with_option(option, value), flag) {
                (Ok(config), _) => config,
                (Err(error), Some(flag)) => return Err(error).at(flag).map_err(misused),
                // What another flag replaces, this sampler does not have.
                (Err(_), None) => config,
            };
        }
        let few = match (&pipeline.distilled, few_step(name)) {
            (Some(distilled), true) => distilled.steps,
            (None, true) => 4,
            (_, false) => 20,
        };
        let steps = match (config.listed_steps(), arguments.steps) {
            (Some(listed), Some(steps)) if steps != listed => {
                let message = format!("--steps is {steps}, but the list has {listed} steps");
                return Err(Failure::usage(message).hint("leave out --steps"));
            }
            (listed, steps) => listed.or(steps).unwrap_or(few),
        };
        let table = samplers::table(&config, steps).map_err(|error| {
            let flag = match &error {
                SamplerError::Steps { .. } => Some("--steps"),
                SamplerError::Value { option, .. } => match *option {
                    "eta" => Some("--eta"),
                    "timesteps" => Some("--timesteps"),
                    "sigmas" => Some("--sigmas"),
                    _ => None,
                },
                _ => None,
            };
            let place = flag.unwrap_or(place);
            let message = format!("{place}: {error}");
            match flag.is_some() {
                true => Failure::usage(message),
                false => Failure::job(message),
            }
        })?;
        // No step of PeRFlow goes beyond its window.
        let fewest = match name {
            "perflow" => table.steps.len(),
            _ => 0,
        };
        if fewest > steps {
            progress::note(format!(
                "{fewest} steps instead of {steps}: the sampler has {fewest} windows, and a step \
                 ends with its own"
            ));
        }
        Ok(Schedule {
            config,
            table,
            steps: steps.max(fewest),
        })
    }
}

/// The sampler's options that the command line gives, with their flags; those without a flag are
/// what another one replaces.
fn options(arguments: &Arguments) -> Vec<(Option<&'static str>, &'static str, Value)> {
    let mut options = Vec::new();
    if let Some(spacing) = arguments.spacing {
        let word = match spacing {
            SpacingName::Leading => "leading",
            SpacingName::Trailing => "trailing",
            SpacingName::Linspace => "linspace",
        };
        options.push((Some("--spacing"), "timestep_spacing", word.into()));
    }
    let curves = [
        (arguments.karras, "--karras", "use_karras_sigmas"),
        (
            arguments.exponential,
            "--exponential",
            "use_exponential_sigmas",
        ),
        (arguments.beta, "--beta", "use_beta_sigmas"),
    ];
    let by_hand = arguments.timesteps.is_some() || arguments.sigmas.is_some();
    if by_hand || curves.iter().any(|(is_given, ..)| *is_given) {
        options.push((None, "use_lu_lambdas", false.into()));
        for (is_given, flag, option) in curves {
            options.push((is_given.then_some(flag), option, is_given.into()));
        }
    }
    if let Some(eta) = arguments.eta {
        options.push((Some("--eta"), "eta", eta.into()));
    }
    let lists = [
        ("--timesteps", "timesteps", &arguments.timesteps),
        ("--sigmas", "sigmas", &arguments.sigmas),
    ];
    for (flag, option, list) in lists {
        let list = list.iter();
        options.extend(list.map(|list| (Some(flag), option, Value::from(list.clone()))));
    }
    options
}

/// An option that the sampler does not have is a wrong use of the command.
fn misused(failure: Failure) -> Failure {
    Failure {
        kind: FailureKind::Usage,
        ..failure
    }
}

/// Whether a sampler is one of distilled models.
pub(super) fn few_step(sampler: &str) -> bool {
    ["splam", "lcm", "tcd", "perflow", "instaflow"].contains(&sampler)
}
