//! How guidance reaches the network: a doubled batch, an embedded scale, or not at all.
//!
//! Takes the options and the description of the model, returns the numbers of guidance.

use compiler::program::pipeline::Pipeline;
use compiler::program::sampler::Guidance;
use graphs::guidance::guidance_embedding;
use graphs::samplers::SamplerConfig;

use crate::error::{At, Failure};
use crate::progress;

use super::arguments::Arguments;
use super::schedule::few_step;

/// How guidance reaches the network.
pub(crate) struct Guide {
    pub(crate) scale: f64,
    /// Whether the network answers for the negative prompt too.
    pub(crate) doubled: bool,
    pub(crate) guidance: Guidance,
    /// The embedded scale, for a network that takes it.
    pub(crate) embedded: Option<Vec<f32>>,
}

impl Guide {
    pub(crate) fn new(
        arguments: &Arguments,
        config: &SamplerConfig,
        pipeline: &Pipeline,
    ) -> Result<Guide, Failure> {
        let name = config.sampler_name().at("scheduler_config.json")?;
        let width = pipeline.guidance_width();
        let usual = match (width, name) {
            (_, "splam") => 1.0,
            (Some(_), _) => 8.5,
            (None, name) if few_step(name) => 1.0,
            (None, _) => pipeline.prompts.guidance_scale,
        };
        // A network that was distilled says itself how it is guided.
        let own = pipeline.distilled.as_ref().and_then(|own| own.guidance);
        let scale = arguments.cfg_scale.or(own).unwrap_or(usual);
        if !scale.is_finite() {
            return Err(Failure::usage(format!(
                "--cfg-scale is {scale}; expected a finite number"
            )));
        }
        let rescale = arguments.guidance_rescale;
        if !(0.0..=1.0).contains(&rescale) {
            return Err(Failure::usage(format!(
                "--guidance-rescale is {rescale}; expected 0 to 1"
            )));
        }
        let built_in = match (name, &pipeline.distilled) {
            ("splam", _) => Some("a SPLAM model has its guidance built in".to_owned()),
            (_, Some(own)) if own.guidance == Some(1.0) => {
                let scale = own.distilled_guidance.as_deref().unwrap_or("a fixed scale");
                let method = &own.method;
                Some(format!(
                    "the model was distilled by {method} with guidance {scale} built in"
                ))
            }
            (_, Some(_) | None) => None,
        };
        if let Some(reason) = built_in.filter(|_| scale != 1.0) {
            let message = format!("--cfg-scale is {scale}, but {reason}");
            return Err(Failure::usage(message).hint("leave --cfg-scale out, or pass 1"));
        }
        // A network that embeds the scale is fed the scale minus one, once (spec 0.4, 4.7).
        let embedded = width.map(|width| guidance_embedding(scale - 1.0, width));
        let doubled = embedded.is_none() && scale > 1.0;
        if !doubled && !arguments.negative.is_empty() {
            progress::warn("the negative prompt has no effect without guidance");
        }
        Ok(Guide {
            scale,
            doubled,
            guidance: Guidance { scale, rescale },
            embedded,
        })
    }
}
