//! The LoRA files of a run, fitted to its model.
//!
//! Takes files and strengths; returns weights that are computed when a network packs them. It says
//! which layers fit nothing, and refuses a file that is for another model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::program::pipeline::Component;
use compiler::value::tensor::Tensor;
use graphs::checkpoint;
use graphs::lora::{self, File, Layer, LoraError, Modules, listed};
use graphs::source::Source;
use runtime::artifact::Files;
use runtime::place::Options;
use runtime::weight_programs::WeightPrograms;

use crate::error::{At, Failure, said};
use crate::files::Folder;
use crate::progress;

/// The names that a folder's LoRA file has, of diffusers and of PEFT.
const NAMES: [&str; 2] = [
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
];

/// The settings that PEFT stores beside a file.
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The LoRA files of a run.
pub(crate) struct Loras {
    /// The layers of each file.
    files: Vec<Vec<Layer>>,
    strengths: Vec<f64>,
    options: Options,
}

impl Loras {
    /// Opens files, each with its strength, for the layers of a model, which are asked for if there
    /// is a file.
    pub(crate) fn open(
        wanted: &[(PathBuf, f64)],
        modules: impl FnOnce() -> Result<Modules, Failure>,
        threads: Option<usize>,
    ) -> Result<Loras, Failure> {
        let mut loras = Loras {
            files: Vec::new(),
            strengths: Vec::new(),
            options: Options {
                threads,
                exact: true,
            },
        };
        if wanted.is_empty() {
            return Ok(loras);
        }
        let modules = modules()?;
        for (path, strength) in wanted {
            loras.files.push(layers(path, *strength, &modules)?);
            loras.strengths.push(*strength);
        }
        Ok(loras)
    }

    /// The weights of a component with what the files add to them, computed when they are read.
    pub(crate) fn applied(
        &self,
        component: &Component,
        mut weights: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, Failure> {
        let programs = lora::weight_programs(&component.name, &self.files, &weights);
        let programs = WeightPrograms::new(programs.at(&component.name)?, self.options);
        weights.extend(programs.parameters(&self.strengths));
        Ok(weights)
    }
}

/// The layers of a file that fit, with warnings of what does not.
fn layers(path: &Path, strength: f64, modules: &Modules) -> Result<Vec<Layer>, Failure> {
    let file = read(path)?;
    let fitted = lora::read(&file, modules).map_err(|error| failed(&error))?;
    let (place, fitting) = (&file.name, fitted.layers.len());
    if !fitted.misfits.is_empty() {
        let count = fitted.misfits.len();
        progress::warn(format!(
            "{place}: {count} of {} layers fit nothing in the model and are left out: {}",
            count + fitting,
            listed(&fitted.misfits)
        ));
    }
    if fitted.lacks_settings {
        progress::warn(format!(
            "{place}: there is no {ADAPTER_CONFIG} beside it, so alpha is unknown; alpha / rank is \
             taken as 1"
        ));
    }
    progress::say(format!(
        "{:>12} {place} at {strength}: {fitting} layers",
        "lora"
    ));
    Ok(fitted.layers)
}

/// Reads the header of a file, or of the one in a folder; factors are read when they are needed.
fn read(path: &Path) -> Result<File, Failure> {
    let inner = NAMES.iter().map(|name| path.join(name));
    let inner = inner.filter(|_| path.is_dir()).find(|path| path.is_file());
    let path = inner.as_deref().unwrap_or(path);
    let (name, place) = (path.display().to_string(), path.display());
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if let Some("bin" | "ckpt" | "pt" | "pth") = extension.to_str() {
        let message = format!("{place}: pickled files can run code and are not read");
        return Err(Failure::job(message).hint("convert it to safetensors"));
    }
    let folder = Folder::new(path.parent().unwrap_or(Path::new("")));
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = Files::view(&folder, &own).map_err(said).at(place)?;
    let wrong = |error| failed(&LoraError::from(error));
    let tensors = checkpoint::parse(&name, &bytes).map_err(wrong)?;
    let stored = |(name, tensor)| (name, folder.stored(tensor));
    Ok(File {
        metadata: checkpoint::metadata(&name, &bytes).map_err(wrong)?,
        tensors: tensors.into_iter().map(stored).collect(),
        adapter_config: std::fs::read(path.with_file_name(ADAPTER_CONFIG)).ok(),
        name,
    })
}

/// A file that cannot be used, with the hint that its error brings.
fn failed(error: &LoraError) -> Failure {
    let failure = Failure::of(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
