//! Samplers: from the text of a configuration through a table to the state after each step.

mod config;
mod formulas;
mod goldens;
mod recorded;

use std::collections::HashMap;

use graphs::samplers::SamplerConfig;
use safetensors::SafeTensors;
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

/// The f32 tensors of a safetensors file, by name.
fn tensors(bytes: &[u8]) -> HashMap<String, Vec<f32>> {
    let file = SafeTensors::deserialize(bytes).expect("the tensors are safetensors");
    let floats = |bytes: &[u8]| {
        let (floats, _) = bytes.as_chunks::<4>();
        floats
            .iter()
            .map(|float| f32::from_le_bytes(*float))
            .collect()
    };
    file.iter()
        .map(|(name, view)| (name.to_owned(), floats(view.data())))
        .collect()
}

/// How far `found` strays from `wanted`, relative to its largest magnitude.
fn deviation(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let scale = wanted
        .iter()
        .fold(0.0_f64, |scale, w| scale.max(f64::from(w.abs())));
    let apart = found
        .iter()
        .zip(wanted)
        .map(|(f, w)| (f64::from(*f) - f64::from(*w)).abs());
    let worst = apart.fold(0.0, |worst: f64, d| {
        if d.is_nan() {
            f64::INFINITY
        } else {
            worst.max(d)
        }
    });
    worst / scale.max(f64::MIN_POSITIVE)
}
