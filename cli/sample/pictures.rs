//! The pictures of a run as PNG files.
//!
//! Takes decoded images and the settings that made them, writes files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use compiler::value::tensor::Tensor;
use graphs::samplers::SamplerConfig;

use crate::error::{At, Failure};
use crate::{outputs, png, progress};

use super::arguments::{Arguments, Rng};

/// The file of each picture: `out.png`, or `out-0.png`, `out-1.png`, … for several.
///
/// # Errors
/// When one of them could not be written.
pub(crate) fn paths(arguments: &Arguments, batch: usize) -> Result<Vec<PathBuf>, Failure> {
    let output = &arguments.output;
    let is_png = |extension: &OsStr| extension.eq_ignore_ascii_case("png");
    if !output.extension().is_none_or(is_png) {
        let message = format!("{}: pictures are written as PNG only", output.display());
        return Err(Failure::usage(message).hint("choose a name that ends in .png"));
    }
    if outputs::is_stdout(output) && batch > 1 {
        let message = format!("-o - takes one picture, but {batch} were asked for");
        return Err(Failure::usage(message).hint("name a file, or leave out -b"));
    }
    let paths = (0..batch).map(|picture| picture_path(output, picture, batch));
    let paths: Vec<PathBuf> = paths.collect();
    paths.iter().try_for_each(|path| outputs::check(path))?;
    Ok(paths)
}

/// Writes one PNG per picture, with the text that other tools read settings from.
pub(crate) fn write(
    arguments: &Arguments,
    paths: &[PathBuf],
    decoded: &Tensor,
    config: &SamplerConfig,
    steps: usize,
    scale: f64,
) -> Result<(), Failure> {
    let name = config.sampler_name().at("scheduler_config.json")?;
    for (picture, path) in paths.iter().enumerate() {
        let pick = |texts: &[String]| {
            texts
                .get(if texts.len() > 1 { picture } else { 0 })
                .cloned()
                .unwrap_or_default()
        };
        let seed = match arguments.rng {
            Rng::Philox => arguments.seed.number.wrapping_add(picture as u64),
            Rng::TorchCpu => arguments.seed.number,
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
        outputs::write(path, &[bytes.into()])?;
        progress::say(format!("wrote {}", path.display()));
    }
    Ok(())
}

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
