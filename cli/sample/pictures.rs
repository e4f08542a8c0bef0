//! The pictures of a run as PNG files.
//!
//! Takes decoded images and the settings that made them, writes files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::value::tensor::Tensor;
use graphs::samplers::SamplerConfig;

use crate::error::{At, Failure};
use crate::{files, png, progress};

use super::arguments::{Arguments, Rng};

/// Writes one PNG per picture, with the text that other tools read settings from.
pub(crate) fn write(
    arguments: &Arguments,
    decoded: &Tensor,
    config: &SamplerConfig,
    steps: usize,
    scale: f64,
) -> Result<(), Failure> {
    let batch = decoded.shape().first().copied().unwrap_or(0);
    let name = config.sampler_name().at("scheduler_config.json")?;
    for picture in 0..batch {
        let pick = |texts: &[String]| {
            texts
                .get(if texts.len() > 1 { picture } else { 0 })
                .cloned()
                .unwrap_or_default()
        };
        let seed = match arguments.rng {
            Rng::Philox => arguments.seed.wrapping_add(picture as u64),
            Rng::TorchCpu => arguments.seed,
        };
        let negative = match pick(&arguments.negative) {
            text if text.is_empty() => String::new(),
            text => format!("Negative prompt: {text}\n"),
        };
        let parameters = format!(
            "{}\n{negative}Steps: {steps}, Sampler: {name}, CFG scale: {scale}, Seed: {seed}, \
             Size: {}x{}, Model: {}, Version: splamc {}",
            pick(&arguments.prompt),
            decoded.shape()[3],
            decoded.shape()[2],
            arguments.model.file_stem().unwrap_or_default().display(),
            env!("CARGO_PKG_VERSION"),
        );
        let texts = BTreeMap::from([("parameters", parameters)]);
        let bytes = png::encode(decoded, picture, &texts)?;
        let path = picture_path(&arguments.output, picture, batch);
        files::replace(&path, &[bytes.into()])?;
        progress::say(format!("wrote {}", path.display()));
    }
    Ok(())
}

/// `out.png`, or `out-0.png`, `out-1.png`, … for several pictures.
fn picture_path(output: &Path, picture: usize, batch: usize) -> PathBuf {
    if batch == 1 {
        return output.to_owned();
    }
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{picture}"));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}
