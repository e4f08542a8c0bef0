//! MODEL in any of its forms, opened once: the description of its pipeline, and a program for each
//! component and size.
//!
//! Takes a path, returns imported graphs, programs and weights. What they mean is decided by the
//! rooms that it calls.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compiler::DType;
use compiler::graph::bind::solve;
use compiler::graph::{Role, TensorType};
use compiler::program::pipeline::{Component, LatentSize, Pipeline, Task};
use compiler::program::{Compiled, compile};
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use graphs::Imported;
use graphs::distilled;
use graphs::lora::{Modules, Network};
use graphs::models::{self, Timestep, unet};
use graphs::onnx::Request;
use graphs::pipeline::{self, Options};
use graphs::pipeline_class;
use graphs::source::{Source, SourceError};
use runtime::artifact::{Artifact, MANIFEST};
use runtime::tiling::Tiling;
use runtime::tokenizer::{Tokenizer, TokenizerFiles};

use crate::error::{At, Failure, said};
use crate::files::{self, Folder};
use crate::loaded::Loaded;
use crate::lora::Loras;
use crate::{cache, compiled, progress, tuning};

/// An opened model.
pub(crate) struct Model {
    path: PathBuf,
    folder: Folder,
    form: Form,
    tuning: OnceCell<Tuning>,
}

/// The forms that a model comes in.
enum Form {
    Files(Box<pipeline::Model>),
    Artifact(Arc<Artifact>),
}

impl Model {
    /// Opens the model at `path`.
    pub(crate) fn open(path: &Path) -> Result<Model, Failure> {
        let place = path.display();
        let metadata = std::fs::metadata(path)
            .map_err(|error| said(files::dangling(path).unwrap_or(error)))
            .at(place)?;
        let path = cache::snapshot(path)?;
        let (folder, form) = match metadata.is_file() {
            true => open_file(&path)?,
            false => open_folder(&path)?,
        };
        Ok(Model {
            path,
            folder,
            form,
            tuning: OnceCell::new(),
        })
    }

    /// Its path, for messages.
    pub(crate) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is: its networks, and how prompts condition them.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        match &self.form {
            Form::Files(model) => &model.pipeline,
            Form::Artifact(artifact) => &artifact.manifest().about.pipeline,
        }
    }

    /// Refuses pipelines that need more than a prompt, or have networks of another kind.
    pub(crate) fn expect_text_to_image(&self) -> Result<(), Failure> {
        let kind = pipeline_class::expect_text_to_image(self.pipeline());
        kind.map_err(|error| failed(self.path.display(), &error))
    }

    /// Whether the model has fixed sizes: a `.splam`.
    pub(crate) fn is_compiled(&self) -> bool {
        self.artifact().is_some()
    }

    /// The opened `.splam`.
    pub(crate) fn artifact(&self) -> Option<&Arc<Artifact>> {
        match &self.form {
            Form::Artifact(artifact) => Some(artifact),
            Form::Files(_) => None,
        }
    }

    /// Whether it was compiled to run with direct sums only.
    pub(crate) fn is_exact(&self) -> bool {
        let artifact = self.artifact();
        artifact.is_some_and(|artifact| artifact.manifest().about.exact)
    }

    /// What was measured of a compiled model on this machine; nothing for other forms.
    pub(crate) fn tuning(&self) -> &Tuning {
        self.tuning.get_or_init(|| match self.is_compiled() {
            true => tuning::load(&self.path),
            false => Tuning::default(),
        })
    }

    /// The components of this model, or the one asked for.
    pub(crate) fn components(&self, wanted: Option<&str>) -> Result<Vec<&Component>, Failure> {
        let all = &self.pipeline().components;
        let is_wanted = |own: &&Component| wanted.is_none_or(|wanted| own.name == wanted);
        let components: Vec<&Component> = all.iter().filter(is_wanted).collect();
        match (wanted, components.is_empty()) {
            (Some(wanted), true) => {
                let (place, found) = (self.path.display(), self.names());
                let message = format!("{place}: there is no component {wanted:?}");
                Err(Failure::job(message).hint(format!("choose one of {found:?}")))
            }
            (_, _) => Ok(components),
        }
    }

    /// The one component to run: the one asked for, or the only one there is.
    pub(crate) fn pick(&self, wanted: Option<&str>) -> Result<&Component, Failure> {
        match self.components(wanted)?[..] {
            [component] => Ok(component),
            _ => {
                let (place, found) = (self.path.display(), self.names());
                let message = format!("{place}: the model has several components: {found:?}");
                Err(Failure::usage(message).hint("choose one with --component NAME"))
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        let all = self.pipeline().components.iter();
        all.map(|component| component.name.as_str()).collect()
    }
}

fn open_folder(path: &Path) -> Result<(Folder, Form), Failure> {
    let folder = Folder::new(path);
    let place = path.display();
    let form = match path.join(MANIFEST).is_file() {
        true => Form::Artifact(Arc::new(
            Artifact::open(Arc::new(folder.clone())).at(place)?,
        )),
        false => {
            let model = pipeline::open(&folder).map_err(|error| failed(&place, &error))?;
            for ignored in &model.ignored {
                progress::warn(format!("{place}: {ignored}"));
            }
            Form::Files(Box::new(model))
        }
    };
    Ok((folder, form))
}

fn open_file(path: &Path) -> Result<(Folder, Form), Failure> {
    let place = path.display();
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let (message, hint) = match extension.to_str() {
        Some("onnx") => {
            let name = path.file_name().and_then(|name| name.to_str());
            let name =
                name.ok_or_else(|| Failure::job(format!("{place}: the name is not UTF-8")))?;
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                Some(_) | None => Path::new("."),
            };
            return Ok((
                Folder::new(parent),
                Form::Files(Box::new(pipeline::open_graph(name))),
            ));
        }
        Some("safetensors") => (
            "single-file checkpoints are not read yet",
            "convert it with diffusers: \
             StableDiffusionPipeline.from_single_file(…).save_pretrained(…)",
        ),
        Some("ckpt" | "pt" | "pth" | "bin") => (
            "pickled checkpoints can run code and are not read",
            "convert it to safetensors with diffusers' from_single_file and save_pretrained",
        ),
        Some(_) | None => (
            "the file is not a model",
            "pass a diffusers or ONNX directory, a .onnx file or a .splam directory",
        ),
    };
    Err(Failure::job(format!("{place}: {message}")).hint(hint))
}

impl Model {
    /// Refuses a sampling run whose sizes a compiled model does not have.
    pub(crate) fn check_sizes(&self, size: LatentSize) -> Result<(), Failure> {
        match self.artifact() {
            Some(artifact) => compiled::check_picture(artifact, size).at(self.path.display()),
            None => Ok(()),
        }
    }

    /// The tiles that the decoder of a compiled model takes.
    pub(crate) fn tiling(&self) -> Result<Option<Tiling>, Failure> {
        match self.artifact() {
            Some(artifact) => compiled::tiling(artifact).at(self.path.display()),
            None => Ok(None),
        }
    }

    /// The tokenizer in a folder.
    pub(crate) fn tokenizer(&self, folder: &str) -> Result<Tokenizer, Failure> {
        let files = self.tokenizer_files(folder)?;
        Tokenizer::from_files(&files).at(format!("{}: {folder}", self.path.display()))
    }

    /// The files of a tokenizer, as they are.
    pub(crate) fn tokenizer_files(&self, folder: &str) -> Result<TokenizerFiles, Failure> {
        match &self.form {
            Form::Artifact(artifact) => artifact.tokenizer_files(folder).at(self.path.display()),
            Form::Files(model) if model.absent.contains(folder) => {
                let place = self.path.display();
                let message = format!("{place}: model_index.json says that there is no {folder}");
                Err(Failure::job(message).hint(format!(
                    "if the folder is the model's own, write \"{folder}\": [\"transformers\", \
                     \"CLIPTokenizer\"] there"
                )))
            }
            Form::Files(_) => {
                let mut failed = None;
                let files = TokenizerFiles::from_names(|name| {
                    let file = Source::read(&self.folder, &format!("{folder}/{name}"));
                    file.inspect_err(|error| match error {
                        SourceError::NotFound { .. } => {}
                        SourceError::Escape { .. }
                        | SourceError::LfsPointer { .. }
                        | SourceError::Failed { .. } => {
                            failed.get_or_insert(error.clone());
                        }
                    })
                    .ok()
                });
                failed.map_or(Ok(files), Err).at(self.path.display())
            }
        }
    }

    /// The name and type of each input of a component; `given` tells the form of the timestep.
    pub(crate) fn inputs(
        &self,
        component: &Component,
        given: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, TensorType)>, Failure> {
        let name = &component.name;
        match &self.form {
            Form::Artifact(artifact) => compiled::inputs(artifact, name, given),
            Form::Files(model) => model
                .inputs(&self.folder, name, timestep_form(given))
                .map_err(|error| failed(self.place_of(component), &error)),
        }
    }

    /// The program of a component for the shapes of `given`, which holds a tensor for each input.
    pub(crate) fn load(
        &self,
        component: &Component,
        given: &BTreeMap<String, Tensor>,
        dtype: Option<DType>,
    ) -> Result<Loaded, Failure> {
        self.check_dtype(component, dtype)?;
        if let Form::Artifact(artifact) = &self.form {
            let shapes = given.iter();
            let shapes = shapes.map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()));
            return self.stored(artifact, component, &shapes.collect());
        }
        let mut options = options(dtype, timestep_form(given), &Bindings::new());
        options.request.inputs.clone_from(given);
        let imported = self.imported(component, &options)?;
        let declared = imported.func.params(Role::Input);
        let declared: Vec<(String, TensorType)> = declared
            .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
            .collect();
        let shapes: Vec<Vec<usize>> = declared
            .iter()
            .map(|(name, ty)| match given[name].shape() {
                // One number can be a scalar.
                [1] if ty.rank() == 0 => Vec::new(),
                [] if ty.rank() == 1 => vec![1],
                shape => shape.to_vec(),
            })
            .collect();
        let bindings = solve(&declared, &shapes).at(self.place_of(component))?;
        self.compiled(component, imported, &bindings)
    }

    /// The program of a component for a call of a sampling run, of a single graph for bindings.
    pub(crate) fn sized(
        &self,
        component: &Component,
        size: LatentSize,
        bindings: &Bindings,
        dtype: Option<DType>,
    ) -> Result<Loaded, Failure> {
        self.check_dtype(component, dtype)?;
        // What is compiled in tiles has no program for the whole picture.
        let size = match (component.task, self.tiling()?) {
            (Task::Decode, Some(tiling)) => size.decoded(Some(tiling.tile())),
            (_, _) => size,
        };
        let shapes = component.shapes(&self.pipeline().latents, size)?;
        let model = match &self.form {
            Form::Artifact(artifact) => {
                return self.stored(artifact, component, &shapes.into_iter().collect());
            }
            Form::Files(model) => model,
        };
        let bindings = match component.task {
            Task::Graph => bindings.clone(),
            Task::EncodeText | Task::Denoise | Task::Decode | Task::EncodePicture => {
                let declared = self.inputs(component, &BTreeMap::new())?;
                let shapes: Vec<Vec<usize>> = shapes.into_iter().map(|(_, shape)| shape).collect();
                solve(&declared, &shapes).at(self.place_of(component))?
            }
        };
        let options = options(dtype, Timestep::Scalar, &bindings);
        let mut imported = self.imported(component, &options)?;
        model.without_spare_results(&component.name, &mut imported.func);
        self.compiled(component, imported, &bindings)
    }

    /// The graph of a component with its weights; sizes that nobody knows are symbols.
    pub(crate) fn graph(&self, component: &Component) -> Result<Imported, Failure> {
        if let Form::Artifact(artifact) = &self.form {
            let Loaded {
                program, weights, ..
            } = self.stored(artifact, component, &BTreeMap::new())?;
            return Ok(Imported {
                func: program.func().clone(),
                weights,
            });
        }
        self.imported(
            component,
            &options(None, Timestep::Scalar, &Bindings::new()),
        )
    }

    /// The shape of each weight of a component, by its name; `None` for an exported graph, whose
    /// weights have names of their own.
    pub(crate) fn weight_shapes(
        &self,
        component: &Component,
    ) -> Result<Option<BTreeMap<String, Vec<usize>>>, Failure> {
        match &self.form {
            Form::Files(model) => model
                .weight_shapes(&component.name)
                .map_err(|error| failed(self.place_of(component), &error)),
            Form::Artifact(artifact) => {
                let weights =
                    compiled::weights(artifact, &component.name).at(self.place_of(component))?;
                let shapes = weights.into_iter();
                let shapes = shapes.map(|(name, tensor)| (name, tensor.shape().to_vec()));
                Ok(Some(shapes.collect()))
            }
        }
    }

    /// What the denoising network of a diffusers directory looks like, and its function in `dtype`
    /// with its weights, which are read when they are needed; without any where its folder has only
    /// a configuration.
    pub(crate) fn unet(
        &self,
        timestep: Timestep,
        dtype: DType,
    ) -> Result<(unet::Config, Imported), Failure> {
        let config = match &self.form {
            Form::Files(model) => model.unet(),
            Form::Artifact(_) => None,
        };
        let config = config.ok_or_else(|| {
            let place = self.path.display();
            let found = Failure::usage(format!("{place}: there is no unet in diffusers' layout"));
            found.hint("pass a teacher in diffusers' layout")
        })?;
        let component = self.pipeline().of_task(Task::Denoise)?;
        if self.is_untrained()? {
            let options = models::Options {
                dtype,
                timestep,
                hidden_states: false,
            };
            let func = unet::build(&component.name, config, &options);
            let func = func.at(self.place_of(component))?;
            let weights = BTreeMap::new();
            return Ok((config.clone(), Imported { func, weights }));
        }
        let options = options(Some(dtype), timestep, &Bindings::new());
        let imported = self.imported(component, &options)?;
        Ok((config.clone(), imported))
    }

    /// Whether its network has a configuration and no weights: a training begins there.
    pub(crate) fn is_untrained(&self) -> Result<bool, Failure> {
        let component = self.pipeline().of_task(Task::Denoise)?;
        match &self.form {
            Form::Files(model) if model.unet().is_some() => Ok(!self.has_weights(&component.name)?),
            Form::Files(_) | Form::Artifact(_) => Ok(false),
        }
    }

    /// Whether the folder of a component holds files of weights in any format.
    fn has_weights(&self, component: &str) -> Result<bool, Failure> {
        const ENDINGS: [&str; 5] = [".safetensors", ".bin", ".ckpt", ".pt", ".index.json"];
        let files = Source::list(&self.folder).at(self.path.display())?;
        let folder = format!("{component}/");
        let own = files
            .iter()
            .map(|file| file.strip_prefix(&folder).unwrap_or(file));
        let mut own = own.filter(|file| !file.contains('/'));
        Ok(own.any(|file| ENDINGS.iter().any(|ending| file.ends_with(ending))))
    }

    /// The graph of a component with its weights, which are read when they are needed.
    fn imported(&self, component: &Component, options: &Options) -> Result<Imported, Failure> {
        let Form::Files(model) = &self.form else {
            unreachable!("what is compiled is not imported again");
        };
        let imported = model.import(&self.folder, &component.name, options);
        let imported = imported.map_err(|error| failed(self.place_of(component), &error))?;
        Ok(Imported {
            func: imported.func,
            weights: self.distilled(component, self.deferred(imported.weights))?,
        })
    }

    /// The weights of a component, for a student that was distilled into matrices with those added.
    fn distilled(
        &self,
        component: &Component,
        weights: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, Failure> {
        if component.task != Task::Denoise || !distilled::needs_lora(&self.folder) {
            return Ok(weights);
        }
        let own = [(self.path.join(distilled::LORA), 1.0)];
        let modules = || self.modules(component, &[]);
        Loras::open(&own, modules, None)?.applied(component, weights)
    }

    /// The LoRA files of a run beside the model's own, which it has at strength 1 already: named
    /// once more it counts for what is left to the strength asked for.
    pub(crate) fn beside_own(&self, wanted: Vec<(PathBuf, f64)>) -> Vec<(PathBuf, f64)> {
        if !distilled::needs_lora(&self.folder) {
            return wanted;
        }
        let own = self.path.join(distilled::LORA).canonicalize().ok();
        let is_own = |path: &Path| {
            let file = match path.is_dir() {
                true => path.join(distilled::LORA),
                false => path.to_owned(),
            };
            own.is_some() && file.canonicalize().ok() == own
        };
        let wanted = wanted.into_iter().map(|(path, strength)| {
            let left = strength - if is_own(&path) { 1.0 } else { 0.0 };
            (path, left)
        });
        wanted.filter(|(_, left)| *left != 0.0).collect()
    }

    /// The layers of the denoising network and of text encoders that LoRA files can change.
    pub(crate) fn modules(
        &self,
        denoiser: &Component,
        encoders: &[&Component],
    ) -> Result<Modules, Failure> {
        let network = |component: &Component| {
            let shapes = self.weight_shapes(component)?.ok_or_else(|| {
                let message = format!(
                    "{}: {} is an exported graph, whose weights have no names that LoRA files know",
                    self.place(),
                    component.name
                );
                Failure::job(message).hint("pass the model in diffusers' layout")
            })?;
            Ok(Network {
                component: component.name.clone(),
                shapes,
            })
        };
        let encoders = encoders.iter().map(|component| network(component));
        let encoders = encoders.collect::<Result<_, Failure>>()?;
        Ok(Modules::new(network(denoiser)?, encoders))
    }

    fn stored(
        &self,
        artifact: &Artifact,
        component: &Component,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Result<Loaded, Failure> {
        let loaded = compiled::load(artifact, &component.name, shapes);
        let loaded = loaded.at(self.place_of(component))?;
        Ok(Loaded {
            weights: self.deferred(loaded.weights),
            ..loaded
        })
    }

    fn compiled(
        &self,
        component: &Component,
        imported: Imported,
        bindings: &Bindings,
    ) -> Result<Loaded, Failure> {
        let Compiled { program, patches } = compile(&imported.func, bindings)
            .at(self.place_of(component))
            .map_err(|failure| match component.task {
                Task::Graph => failure.hint("bind open sizes with --bind NAME=SIZE"),
                Task::EncodeText | Task::Denoise | Task::Decode | Task::EncodePicture => failure,
            })?;
        Ok(Loaded {
            program,
            parts: None,
            weights: imported.weights,
            patches,
        })
    }

    /// Weights that are read from their files when they are needed.
    fn deferred(&self, weights: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        let stored = |(name, tensor)| (name, self.folder.stored(tensor));
        weights.into_iter().map(stored).collect()
    }

    /// Refuses another type than that of a compiled model.
    fn check_dtype(&self, component: &Component, dtype: Option<DType>) -> Result<(), Failure> {
        let (Some(dtype), Form::Artifact(artifact)) = (dtype, &self.form) else {
            return Ok(());
        };
        let own = &artifact.manifest().about.dtype;
        if own == dtype.name() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{}: the graph was compiled in {own}, which --dtype cannot change",
            self.place_of(component)
        ))
        .hint("give --dtype when compiling the model"))
    }

    fn place_of(&self, component: &Component) -> String {
        let path = self.path.display();
        match component.task {
            Task::Graph => path.to_string(),
            Task::EncodeText | Task::Denoise | Task::Decode | Task::EncodePicture => {
                format!("{path}: {}", component.name)
            }
        }
    }
}

/// An import that failed, with the hint that it brings.
fn failed(place: impl Display, error: &graphs::ImportError) -> Failure {
    let failure = Err::<(), _>(error).at(place).expect_err("an error");
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// How a graph is imported of which no input is at hand.
fn options(dtype: Option<DType>, timestep: Timestep, bindings: &Bindings) -> Options {
    Options {
        dtype: dtype.unwrap_or(DType::F32),
        timestep,
        request: Request {
            bindings: bindings.clone(),
            inputs: BTreeMap::new(),
            dtype,
        },
    }
}

/// One timestep for all pictures, unless several are given.
fn timestep_form(given: &BTreeMap<String, Tensor>) -> Timestep {
    match given.get("timestep").map(Tensor::elements) {
        None | Some(0 | 1) => Timestep::Scalar,
        Some(_) => Timestep::PerSample,
    }
}
