//! What people use of a training: `student/` and `ema/`, ordinary pipelines in diffusers' layout.
//!
//! Takes a student's parameters and what its method makes of them; writes the network with its
//! configuration, a sampler's configuration that fits, and links to (or copies of) what else the
//! teacher has. Weights are written beside and renamed, last.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use compiler::DType;
use compiler::program::pipeline::Task;
use compiler::value::tensor::Tensor;
use graphs::distill::{self, Adapter, Outcome};
use graphs::distilled::{self, LORA};
use graphs::lora::{self, Format, Layer, Modules, Network};
use graphs::models::Timestep;
use runtime::tensor_file;
use runtime::training::checkpoint;
use serde_json::{Map, Value, json};

use super::folder::TrainingFolder;
use crate::error::{At, Failure, said};
use crate::model::Model;
use crate::teacher::{self, sampler_config};
use crate::{files, outputs};

/// What a student is made of beside its parameters.
pub(crate) struct Export<'a> {
    /// The teacher.
    pub(crate) teacher: &'a Model,
    /// Where the student's network began, if not as the teacher's.
    pub(crate) student: Option<&'a Path>,
    /// What the method makes of its students.
    pub(crate) outcome: Outcome,
    /// Features of the student's condition, if it has one and it stays.
    pub(crate) condition: Option<usize>,
    /// The matrices that were trained in place of the network's weights, and how files of them are
    /// spelled.
    pub(crate) adapter: Option<(Adapter, Format)>,
    /// Whether components of the teacher are copied, not linked.
    pub(crate) copy: bool,
}

/// Writes the average of a checkpoint as a pipeline to `to`, with links to what the training's own
/// students are made of.
pub(crate) fn write_checkpoint(folder: &Path, step: u64, to: &Path) -> Result<(), Failure> {
    let place = folder.display();
    let store = TrainingFolder::at(folder);
    let state = checkpoint::read_state(&store, step).at(&place)?;
    let parameters = checkpoint::average(&store, step).at(&place)?;
    let latest = Model::open(&folder.join(EMA))?;
    let method = distill::method(&state.method).map_err(Failure::usage)?;
    let method = method.set(&state.settings, &teacher::of(&latest)?);
    let method = method.map_err(Failure::usage)?;
    let (config, _) = latest.unet(Timestep::PerSample, DType::F32)?;
    let export = Export {
        teacher: &latest,
        student: None,
        outcome: method.result(),
        condition: config.condition_width,
        adapter: method.student().adapter.map(|own| (own, Format::Diffusers)),
        copy: false,
    };
    export.write(to, parameters)
}

/// The folder of the average, in that of a training.
pub(crate) const EMA: &str = "ema";

/// The file of matrices in kohya's spelling.
const LORA_KOHYA: &str = "lora_kohya.safetensors";

/// Folders of components, in the order in which pipelines use them, that a student shares with its
/// teacher.
const UNET: &str = "unet";

impl Export<'_> {
    /// Writes a pipeline with these parameters, by diffusers' names, to `to`.
    pub(crate) fn write(
        &self,
        to: &Path,
        parameters: BTreeMap<String, Tensor>,
    ) -> Result<(), Failure> {
        let place = to.display();
        self.write_others(to)?;
        self.write_scheduler(to)?;
        if let Some((adapter, format)) = self.adapter {
            return self.write_lora(to, &adapter.layers(UNET, &parameters), format);
        }
        let weights = self.outcome.condition.apply(parameters).at(&place)?;
        let mut config = self.network_config()?;
        config.insert("time_cond_proj_dim".to_owned(), json!(self.condition));
        write_json(&to.join(UNET).join("config.json"), &config)?;
        let named = weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let parts = tensor_file::parts_about(&self.about(), named).at(&place)?;
        write(
            &to.join(UNET).join("diffusion_pytorch_model.safetensors"),
            &parts,
        )
    }

    /// Writes trained matrices: for diffusers, and where asked for as kohya's scripts spell them. The
    /// network itself is the teacher's.
    fn write_lora(&self, to: &Path, layers: &[Layer], format: Format) -> Result<(), Failure> {
        let denoiser = self.teacher.pipeline().of_task(Task::Denoise)?;
        let shapes = self.teacher.weight_shapes(denoiser)?.unwrap_or_default();
        let component = UNET.to_owned();
        let modules = Modules::new(Network { component, shapes }, Vec::new());
        let files = [(Format::Diffusers, LORA), (Format::Kohya, LORA_KOHYA)];
        for (spelling, file) in files {
            if spelling == Format::Kohya && format != Format::Kohya {
                continue;
            }
            let tensors = lora::write(spelling, layers, &modules);
            let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
            let parts = tensor_file::parts_about(&self.about(), named).at(to.display())?;
            write(&to.join(file), &parts)?;
        }
        Ok(())
    }

    /// What the file of weights says about them.
    fn about(&self) -> BTreeMap<String, String> {
        let distilled = self.outcome.distilled.as_ref();
        distilled.map(distilled::metadata).unwrap_or_default()
    }

    /// The configuration of the network that the student began as.
    fn network_config(&self) -> Result<Map<String, Value>, Failure> {
        let model = self.student.unwrap_or_else(|| self.teacher.path());
        let inside = model.join(UNET).join("config.json");
        match inside.is_file() {
            true => read_json(&inside),
            false => read_json(&model.join("config.json")),
        }
    }

    /// The configuration of the sampler that the student is made for: the teacher's schedule, and
    /// the options of the method's sampler.
    fn write_scheduler(&self, to: &Path) -> Result<(), Failure> {
        let folder = Path::new("scheduler");
        let file = folder.join("scheduler_config.json");
        let from = self.teacher.path().join(&file);
        if !from.is_file() {
            return Ok(());
        }
        let config = match &self.outcome.sampler {
            None => read_json(&from)?,
            Some((class, options)) => {
                let teachers = sampler_config(self.teacher)?.schedule_options();
                let mut config = teachers.at(from.display())?;
                config.insert("_class_name".to_owned(), json!(class));
                config.extend(options.clone());
                config
            }
        };
        write_json(&to.join(&file), &config)?;
        self.write_index(to)
    }

    /// The index of the pipeline, if the teacher has one, with the class of the sampler.
    fn write_index(&self, to: &Path) -> Result<(), Failure> {
        let from = self.teacher.path().join(INDEX);
        if !from.is_file() {
            return Ok(());
        }
        let mut index = read_json(&from)?;
        if let Some((class, _)) = &self.outcome.sampler {
            index.insert("scheduler".to_owned(), json!(["diffusers", class]));
        }
        write_json(&to.join(INDEX), &index)
    }

    /// Links or copies every folder of the teacher that the student shares.
    fn write_others(&self, to: &Path) -> Result<(), Failure> {
        fs::create_dir_all(to).map_err(said).at(to.display())?;
        let teacher = self.teacher.path();
        let entries = fs::read_dir(teacher).map_err(said).at(teacher.display())?;
        for entry in entries {
            let entry = entry.map_err(said).at(teacher.display())?;
            let (from, name) = (entry.path(), entry.file_name());
            let own = name == "scheduler" || (name == UNET && self.adapter.is_none());
            let is_shared = from.is_dir() && !own;
            if !is_shared || to.join(&name).exists() {
                continue;
            }
            let made = match self.copy {
                true => copy(&from, &to.join(&name)),
                false => link(&from, &to.join(&name)),
            };
            made.map_err(said).at(to.join(&name).display())?;
        }
        Ok(())
    }
}

const INDEX: &str = "model_index.json";

/// A link to a folder, by its whole path; a copy where there are no links.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let from: PathBuf = fs::canonicalize(from)?;
    // What a kill left, or a link whose end has moved.
    if to.is_symlink() {
        fs::remove_file(to)?;
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(from, to);
    #[cfg(not(unix))]
    copy(&from, to)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to)?,
            false => fs::copy(&from, &to).map(drop)?,
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = files::read(path)?;
    serde_json::from_slice(&text).at(path.display())
}

fn write_json(path: &Path, object: &Map<String, Value>) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(object).expect("what was read as JSON is JSON");
    text.push(b'\n');
    write(path, &[text.into()])
}

fn write(path: &Path, parts: &[Bytes]) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(said)
            .at(parent.display())?;
    }
    outputs::write(path, parts)
}
