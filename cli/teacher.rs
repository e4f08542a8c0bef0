//! What trainings and evaluations must know of a teacher beside its networks.
//!
//! Takes a model, returns its noise schedule and what its output means.

use graphs::distill::Teacher;
use graphs::samplers::SamplerConfig;

use crate::error::{At, Failure};
use crate::model::Model;

/// The configuration of a model's sampler.
pub(crate) fn sampler_config(model: &Model) -> Result<SamplerConfig, Failure> {
    let pipeline = model.pipeline();
    let place = model.place();
    let text = pipeline.scheduler.as_ref().ok_or_else(|| {
        let failure = Failure::job(format!("{place}: there is no scheduler_config.json"));
        failure.hint("put the model's scheduler/scheduler_config.json beside its components")
    })?;
    let config = SamplerConfig::from_diffusers(text);
    let config = config.at(format!("{place}: scheduler_config.json"))?;
    Ok(match &pipeline.scheduler_class {
        Some(class) => config.of_index(class),
        None => config,
    })
}

/// What a method must know of the teacher: its noise schedule and what its output means.
pub(crate) fn of(model: &Model) -> Result<Teacher, Failure> {
    let config = sampler_config(model)?;
    let place = format!("{}: scheduler_config.json", model.place());
    Ok(Teacher {
        prediction: config.prediction_type().at(&place)?,
        schedule: config.noise_schedule().at(&place)?,
    })
}
