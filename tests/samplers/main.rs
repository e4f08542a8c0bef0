//! Samplers: from the text of a configuration through a table to the state after each step.

mod config;
mod formulas;
mod goldens;

use graphs::samplers::SamplerConfig;
use serde_json::{Value, json};

/// The configuration of a class with Stable Diffusion's betas and other options.
fn with_options(class: &str, options: Value) -> SamplerConfig {
    let mut file = json!({
        "_class_name": class, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "clip_sample": false,
    });
    let options = options.as_object().expect("options are an object").clone();
    file.as_object_mut()
        .expect("the file is an object")
        .extend(options);
    SamplerConfig::from_diffusers(&file.to_string()).expect("the configuration is JSON")
}
