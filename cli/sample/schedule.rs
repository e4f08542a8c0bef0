//! Which sampler a run uses, and its table of numbers.
//!
//! Takes the options and the model's `scheduler_config.json`, returns the sampler and its table.

use compiler::program::pipeline::Pipeline;
use compiler::program::sampler::SamplerTable;
use graphs::samplers::{self, SamplerConfig, SamplerError};

use crate::error::{At, Failure, FailureKind};

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
        if let Some(class) = &pipeline.class {
            config = config.in_pipeline(class);
        }
        if let Some(name) = &arguments.sampler {
            config = config.with_sampler(name).at(place)?;
        }
        if let Some(spacing) = arguments.spacing {
            let word = match spacing {
                SpacingName::Leading => "leading",
                SpacingName::Trailing => "trailing",
                SpacingName::Linspace => "linspace",
            };
            config = config
                .with_option("timestep_spacing", word.into())
                .at("--spacing")
                .map_err(misused)?;
        }
        if arguments.karras {
            config = config
                .with_option("use_karras_sigmas", true.into())
                .at("--karras")
                .map_err(misused)?;
        }
        let name = config.sampler_name().at(place)?;
        let steps = arguments
            .steps
            .unwrap_or(if few_step(name) { 4 } else { 20 });
        let table = samplers::table(&config, steps).map_err(|error| {
            let about_steps = matches!(error, SamplerError::Steps { .. });
            let place = if about_steps { "--steps" } else { place };
            let message = format!("{place}: {error}");
            match about_steps {
                true => Failure::usage(message),
                false => Failure::job(message),
            }
        })?;
        Ok(Schedule {
            config,
            table,
            steps,
        })
    }
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
    ["splam", "lcm", "tcd", "perflow"].contains(&sampler)
}
