//! What trainings and evaluations must know of a teacher beside its networks.
//!
//! Takes a model, returns its noise schedule and what its output means.

use graphs::distill::Teacher;
use graphs::samplers::SamplerConfig;

use crate::error::{At, Failure};
use crate::model::Model;

/// The noise schedule of a model and what its output means.
pub(crate) fn of(model: &Model) -> Result<Teacher, Failure> {
    let pipeline = model.pipeline();
    let place = model.place();
    let text = pipeline.scheduler.as_ref().ok_or_else(|| {
        let failure = Failure::job(format!("{place}: there is no scheduler_config.json"));
        failure.hint("put the model's scheduler/scheduler_config.json beside its components")
    })?;
    let place = format!("{place}: scheduler_config.json");
    let mut config = SamplerConfig::from_diffusers(text).at(&place)?;
    if let Some(class) = &pipeline.scheduler_class {
        config = config.of_index(class);
    }
    Ok(Teacher {
        prediction: config.prediction_type().at(&place)?,
        schedule: config.noise_schedule().at(&place)?,
    })
}
