//! MODEL in any of its forms, opened once: which parts it has, what sampling must know of it, and
//! a program for each part and size.
//!
//! Takes a path, gives imported graphs, programs and weights. It decides nothing that a room
//! decides: it asks.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compiler::graph::bind::solve;
use compiler::graph::{Role, TensorType};
use compiler::passes::Patch;
use compiler::program::{Compiled, Program, compile};
use compiler::tile::Tuning;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;
use compiler::{DType, Dim};
use graphs::Imported;
use graphs::diffusers::{self, Network, Pipeline};
use graphs::models::{self, Timestep, unet};
use graphs::onnx::{self, Request};
use graphs::optimum;
use graphs::source::Source;
use runtime::artifact::{Artifact, MANIFEST};
use runtime::tiling::Tiling;
use runtime::tokenizer::{Tokenizer, TokenizerFiles};

use crate::compiled;
use crate::error::{At, Failure};
use crate::facts::{Facts, LATENT_SIZE, Sizes, TOKENS, describe, run_shape, shapes};
use crate::files::{self, Folder};
use crate::options::{ComponentName, Target};
use crate::tuning;

/// An opened model.
pub(crate) struct Model {
    path: PathBuf,
    folder: Folder,
    form: Form,
    tuning: OnceCell<Tuning>,
}

/// The forms that a model comes in.
enum Form {
    Diffusers { components: Vec<ComponentName> },
    Optimum(optimum::Layout),
    Onnx { file: String },
    Artifact(Arc<Artifact>),
}

/// One graph of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A component of a pipeline.
    Component(ComponentName),
    /// The only graph of a file.
    Graph,
}

impl Part {
    /// The name in messages and artifacts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Part::Component(component) => component.name(),
            Part::Graph => "graph",
        }
    }
}

/// The components in the order in which sampling uses them.
const COMPONENTS: [ComponentName; 4] = [
    ComponentName::TextEncoder,
    ComponentName::Unet,
    ComponentName::VaeDecoder,
    ComponentName::VaeEncoder,
];

/// A program and the tensors of its weights.
pub(crate) struct Loaded {
    /// The program.
    pub(crate) program: Program,
    /// Its weights, by name.
    pub(crate) weights: BTreeMap<String, Tensor>,
    /// What the passes did; nothing for a program that was compiled before.
    pub(crate) patches: Vec<Patch>,
}

impl Model {
    /// Opens the model at `path`.
    pub(crate) fn open(path: &Path) -> Result<Model, Failure> {
        let place = path.display();
        let metadata = std::fs::metadata(path).map_err(files::said).at(place)?;
        if metadata.is_file() {
            return Model::open_file(path);
        }
        let folder = Folder::new(path);
        if path.join(MANIFEST).is_file() {
            let artifact = Artifact::open(Arc::new(folder.clone())).at(path.display())?;
            let form = Form::Artifact(Arc::new(artifact));
            return Ok(Model {
                path: path.to_owned(),
                folder,
                form,
                tuning: OnceCell::new(),
            });
        }
        let form = match optimum::open(&folder).at(path.display())? {
            Some(layout) => Form::Optimum(layout),
            None => {
                let pipeline = open_pipeline(&folder, path)?;
                let here =
                    |component: &ComponentName| pipeline.component(component.name()).is_some();
                Form::Diffusers {
                    components: COMPONENTS.into_iter().filter(here).collect(),
                }
            }
        };
        Ok(Model {
            path: path.to_owned(),
            folder,
            form,
            tuning: OnceCell::new(),
        })
    }

    fn open_file(path: &Path) -> Result<Model, Failure> {
        let place = path.display();
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("onnx") => {
                let name = path.file_name().and_then(|name| name.to_str());
                let file = name.ok_or_else(|| Failure::job(format!("{place}: the name is not UTF-8")))?;
                let parent = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    Some(_) | None => Path::new("."),
                };
                let form = Form::Onnx { file: file.to_owned() };
                Ok(Model { path: path.to_owned(), folder: Folder::new(parent), form, tuning: OnceCell::new() })
            }
            Some("safetensors") => {
                Err(Failure::job(format!("{place}: single-file checkpoints are not read yet"))
                    .hint("convert it with diffusers: StableDiffusionPipeline.from_single_file(…).save_pretrained(…)"))
            }
            Some("ckpt" | "pt" | "pth" | "bin") => {
                Err(Failure::job(format!("{place}: pickled checkpoints can run code and are not read"))
                    .hint("convert it to safetensors with diffusers' from_single_file and save_pretrained"))
            }
            Some(_) | None => {
                Err(Failure::job(format!("{place}: found a file that is no model"))
                    .hint("wanted a diffusers or ONNX directory, a .onnx file or a .splam directory"))
            }
        }
    }

    /// Whether the model has fixed sizes: a `.splam`.
    pub(crate) fn is_compiled(&self) -> bool {
        self.artifact().is_some()
    }

    /// The opened `.splam`.
    pub(crate) fn artifact(&self) -> Option<&Arc<Artifact>> {
        match &self.form {
            Form::Artifact(artifact) => Some(artifact),
            Form::Diffusers { .. } | Form::Optimum(_) | Form::Onnx { .. } => None,
        }
    }

    /// Whether it was compiled to run with direct sums only.
    pub(crate) fn is_exact(&self) -> bool {
        let artifact = self.artifact();
        artifact.is_some_and(|artifact| artifact.manifest().about.exact)
    }

    /// Where to run: on `wanted` or the processor, but a compiled model nowhere but on what it was
    /// compiled for.
    pub(crate) fn target(&self, wanted: Option<Target>) -> Result<Target, Failure> {
        match self.artifact() {
            Some(artifact) => compiled::target(artifact, wanted).at(self.path.display()),
            None => Ok(wanted.unwrap_or(backends::host())),
        }
    }

    /// What was measured of a compiled model on this machine; nothing for other forms.
    pub(crate) fn tuning(&self) -> &Tuning {
        self.tuning.get_or_init(|| match self.is_compiled() {
            true => tuning::load(&self.path),
            false => Tuning::default(),
        })
    }

    /// The parts of this model, or the one asked for.
    pub(crate) fn parts(&self, wanted: Option<ComponentName>) -> Result<Vec<Part>, Failure> {
        let parts = self.all_parts();
        let Some(wanted) = wanted else {
            return Ok(parts);
        };
        match parts.contains(&Part::Component(wanted)) {
            true => Ok(vec![Part::Component(wanted)]),
            false => {
                let found: Vec<&str> = parts.iter().map(Part::name).collect();
                let message = format!(
                    "{}: found {found:?}, wanted {:?}",
                    self.path.display(),
                    wanted.name()
                );
                Err(Failure::job(message))
            }
        }
    }

    /// The one part to run: the one asked for, or the only one there is.
    pub(crate) fn pick(&self, wanted: Option<ComponentName>) -> Result<Part, Failure> {
        let mut parts = self.parts(wanted)?;
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let found: Vec<&str> = parts.iter().map(Part::name).collect();
        let message = format!(
            "{}: found components {found:?}, wanted one of them",
            self.path.display()
        );
        Err(Failure::usage(message).hint("choose with --component NAME"))
    }
}

impl Model {
    fn all_parts(&self) -> Vec<Part> {
        let components = match &self.form {
            Form::Diffusers { components } => components.clone(),
            Form::Optimum(layout) => {
                let here = |component: &ComponentName| layout.graphs.contains_key(component.name());
                COMPONENTS.into_iter().filter(here).collect()
            }
            Form::Onnx { .. } => return vec![Part::Graph],
            Form::Artifact(artifact) => return compiled::parts(artifact),
        };
        components.into_iter().map(Part::Component).collect()
    }

    fn pipeline(&self) -> Result<Pipeline<'_>, Failure> {
        open_pipeline(&self.folder, &self.path)
    }

    /// What sampling must know beside the graphs.
    pub(crate) fn facts(&self) -> Result<Facts, Failure> {
        let mut facts = Facts {
            pipeline: None,
            scheduler: None,
            scaling_factor: 0.18215,
            shift_factor: 0.0,
            latent_channels: 4,
            vae_scale: 8,
            latent_size: LATENT_SIZE,
            timestep_cond: None,
            tokens: TOKENS,
        };
        match &self.form {
            Form::Diffusers { .. } => {
                let pipeline = self.pipeline()?;
                facts.pipeline.clone_from(&pipeline.class);
                facts.scheduler.clone_from(&pipeline.scheduler);
                for component in &pipeline.components {
                    describe(&component.network, &mut facts);
                }
            }
            Form::Optimum(layout) => {
                facts.pipeline.clone_from(&layout.class);
                facts.scheduler.clone_from(&layout.scheduler);
                facts.scaling_factor = layout.scaling_factor;
                facts.shift_factor = layout.shift_factor;
                facts.vae_scale = layout.vae_scale;
                facts.latent_size = layout.latent_size.unwrap_or(LATENT_SIZE);
                if layout.graphs.contains_key("unet") {
                    let unet = Part::Component(ComponentName::Unet);
                    for (name, ty) in self.declared(&unet, Timestep::Scalar)? {
                        let extent = |axis: usize| ty.shape.get(axis).and_then(Dim::extent);
                        match (name.as_str(), extent(1)) {
                            ("sample", Some(channels)) => facts.latent_channels = channels,
                            ("timestep_cond", width) => facts.timestep_cond = width,
                            (_, _) => {}
                        }
                    }
                }
            }
            Form::Onnx { .. } => {}
            Form::Artifact(artifact) => {
                compiled::facts(artifact, &mut facts).at(self.path.display())?
            }
        }
        Ok(facts)
    }

    /// Refuses a sampling run whose sizes a compiled model does not have.
    pub(crate) fn check_sizes(&self, sizes: Sizes, facts: &Facts) -> Result<(), Failure> {
        match &self.form {
            Form::Artifact(artifact) => {
                compiled::check_picture(artifact, sizes, facts.vae_scale).at(self.path.display())
            }
            Form::Diffusers { .. } | Form::Optimum(_) | Form::Onnx { .. } => Ok(()),
        }
    }

    /// The tiles that the decoder of a compiled model takes.
    pub(crate) fn tiling(&self) -> Result<Option<Tiling>, Failure> {
        match &self.form {
            Form::Artifact(artifact) => compiled::tiling(artifact).at(self.path.display()),
            Form::Diffusers { .. } | Form::Optimum(_) | Form::Onnx { .. } => Ok(None),
        }
    }

    /// The tokenizer beside the text encoder.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let files = self.tokenizer_files()?;
        Tokenizer::from_files(&files).at(format!("{}: tokenizer", self.path.display()))
    }

    /// The files of the tokenizer, as they are.
    pub(crate) fn tokenizer_files(&self) -> Result<TokenizerFiles, Failure> {
        match &self.form {
            Form::Artifact(artifact) => artifact
                .tokenizer_files("tokenizer")
                .at(self.path.display()),
            Form::Diffusers { .. } | Form::Optimum(_) | Form::Onnx { .. } => {
                let file = |name: &str| self.folder.read(&format!("tokenizer/{name}")).ok();
                Ok(TokenizerFiles::from_names(file))
            }
        }
    }

    /// The name and type of each input of `part`; `given` tells the form of the timestep.
    pub(crate) fn inputs(
        &self,
        part: &Part,
        given: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, TensorType)>, Failure> {
        match &self.form {
            Form::Artifact(artifact) => compiled::inputs(artifact, part, given),
            Form::Diffusers { .. } | Form::Optimum(_) | Form::Onnx { .. } => {
                self.declared(part, timestep_form(given))
            }
        }
    }

    fn declared(
        &self,
        part: &Part,
        timestep: Timestep,
    ) -> Result<Vec<(String, TensorType)>, Failure> {
        match &self.form {
            Form::Diffusers { .. } => {
                let pipeline = self.pipeline()?;
                let component = pipeline
                    .component(part.name())
                    .expect("parts come from this list");
                let func = component
                    .func(&options(DType::F32, timestep))
                    .at(self.place(part))?;
                Ok(func
                    .params(Role::Input)
                    .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
                    .collect())
            }
            Form::Optimum(layout) => {
                onnx::inputs(&self.folder, &layout.graphs[part.name()]).at(self.place(part))
            }
            Form::Onnx { file } => onnx::inputs(&self.folder, file).at(self.place(part)),
            Form::Artifact(artifact) => compiled::inputs(artifact, part, &BTreeMap::new()),
        }
    }

    /// The program of `part` for the shapes of `given`, which holds a tensor for each input.
    pub(crate) fn load(
        &self,
        part: &Part,
        given: &BTreeMap<String, Tensor>,
    ) -> Result<Loaded, Failure> {
        if let Form::Artifact(artifact) = &self.form {
            let shapes = given
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()));
            let loaded = compiled::load(artifact, part, &shapes.collect());
            return loaded.at(self.place(part)).map(|loaded| self.lent(loaded));
        }
        let request = Request {
            bindings: Bindings::new(),
            inputs: given.clone(),
        };
        let imported = self.imported(part, None, timestep_form(given), &request)?;
        let func = &imported.func;
        let declared: Vec<(String, TensorType)> = func
            .params(Role::Input)
            .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
            .collect();
        let shapes: Vec<Vec<usize>> = declared
            .iter()
            .map(|(name, ty)| match given[name].shape() {
                // One number is a scalar to whoever wants one.
                [1] if ty.rank() == 0 => Vec::new(),
                [] if ty.rank() == 1 => vec![1],
                shape => shape.to_vec(),
            })
            .collect();
        let bindings = solve(&declared, &shapes).at(self.place(part))?;
        self.compiled(part, imported, &bindings)
    }

    /// The program of a component for sizes of a sampling run.
    pub(crate) fn component(
        &self,
        component: ComponentName,
        sizes: Sizes,
        dtype: Option<DType>,
    ) -> Result<Loaded, Failure> {
        let mut parts = self.parts(Some(component))?;
        self.sized(&parts.remove(0), sizes, &Bindings::new(), dtype)
    }

    /// The program of `part`: a component for sizes of a sampling run, a single graph for bindings.
    pub(crate) fn sized(
        &self,
        part: &Part,
        sizes: Sizes,
        bindings: &Bindings,
        dtype: Option<DType>,
    ) -> Result<Loaded, Failure> {
        let bindings = match part {
            Part::Graph => bindings.clone(),
            Part::Component(component) => {
                let declared = self.declared(part, Timestep::Scalar)?;
                let facts = self.facts()?;
                if let Form::Artifact(artifact) = &self.form {
                    let sizes = match (component, self.tiling()?) {
                        (ComponentName::VaeDecoder, Some(tiling)) => sizes.tile(&tiling),
                        (_, _) => sizes,
                    };
                    // Which of its programs is meant: the sizes of the run tell, not the first's.
                    let shape = |(name, ty): (String, TensorType)| {
                        let shape = run_shape(*component, &name, &ty, sizes, &facts)?;
                        shape
                            .into_iter()
                            .collect::<Option<Vec<usize>>>()
                            .map(|shape| (name, shape))
                    };
                    let shapes = declared.into_iter().filter_map(shape).collect();
                    let loaded = compiled::load(artifact, part, &shapes);
                    return loaded.at(self.place(part)).map(|loaded| self.lent(loaded));
                }
                let shapes = shapes(*component, &declared, sizes, &facts)?;
                solve(&declared, &shapes).at(self.place(part))?
            }
        };
        let request = Request {
            bindings: bindings.clone(),
            inputs: BTreeMap::new(),
        };
        let imported = self.imported(part, dtype, Timestep::Scalar, &request)?;
        self.compiled(part, imported, &bindings)
    }

    /// The graph of `part` with its weights; sizes that nobody knows are symbols.
    pub(crate) fn graph(&self, part: &Part) -> Result<Imported, Failure> {
        let request = Request {
            bindings: Bindings::new(),
            inputs: BTreeMap::new(),
        };
        self.imported(part, None, Timestep::Scalar, &request)
    }

    /// What the denoising network of a diffusers directory looks like, and its function with its
    /// weights in f32.
    pub(crate) fn unet(&self, timestep: Timestep) -> Result<(unet::Config, Imported), Failure> {
        let place = self.path.display().to_string();
        let Form::Diffusers { .. } = &self.form else {
            let found = Failure::usage(format!("{place}: found no diffusers directory"));
            return Err(found.hint("training takes a teacher in diffusers' layout"));
        };
        let pipeline = self.pipeline()?;
        let component = pipeline.component("unet");
        let Some((component, Network::Unet(config))) =
            component.map(|component| (component, &component.network))
        else {
            return Err(Failure::job(format!("{place}: found no unet")));
        };
        let imported = component
            .build(&options(DType::F32, timestep))
            .map_err(|error| imported_badly(&place, &error))?;
        let lend = |(name, tensor)| (name, self.folder.lend(tensor));
        let imported = Imported {
            weights: imported.weights.into_iter().map(lend).collect(),
            ..imported
        };
        Ok((config.clone(), imported))
    }

    fn imported(
        &self,
        part: &Part,
        dtype: Option<DType>,
        timestep: Timestep,
        request: &Request,
    ) -> Result<Imported, Failure> {
        self.check_dtype(part, dtype)?;
        let path = match &self.form {
            Form::Diffusers { .. } => {
                let pipeline = self.pipeline()?;
                let component = pipeline
                    .component(part.name())
                    .expect("parts come from this list");
                return component
                    .build(&options(dtype.unwrap_or(DType::F32), timestep))
                    .map_err(|error| imported_badly(&self.place(part), &error));
            }
            Form::Optimum(layout) => &layout.graphs[part.name()],
            Form::Onnx { file } => file,
            Form::Artifact(artifact) => {
                let shapes = BTreeMap::new();
                let Loaded {
                    program, weights, ..
                } = compiled::load(artifact, part, &shapes).at(self.place(part))?;
                return Ok(Imported {
                    func: program.func().clone(),
                    weights,
                });
            }
        };
        Ok(onnx::import(&self.folder, path, request)
            .at(self.place(part))?
            .imported)
    }

    fn compiled(
        &self,
        part: &Part,
        imported: Imported,
        bindings: &Bindings,
    ) -> Result<Loaded, Failure> {
        let Compiled { program, patches } = compile(&imported.func, bindings)
            .at(self.place(part))
            .map_err(|failure| match part {
                Part::Graph => failure.hint("bind open sizes with --bind NAME=SIZE"),
                Part::Component(_) => failure,
            })?;
        Ok(self.lent(Loaded {
            program,
            weights: imported.weights,
            patches,
        }))
    }

    /// Weights that give their memory back one by one.
    fn lent(&self, loaded: Loaded) -> Loaded {
        let lend = |(name, tensor)| (name, self.folder.lend(tensor));
        Loaded {
            weights: loaded.weights.into_iter().map(lend).collect(),
            ..loaded
        }
    }

    /// Refuses a type for graphs that bring their own.
    fn check_dtype(&self, part: &Part, dtype: Option<DType>) -> Result<(), Failure> {
        let own = match (&self.form, dtype) {
            (_, None) | (Form::Diffusers { .. }, Some(_)) => return Ok(()),
            (Form::Artifact(artifact), Some(dtype)) => {
                let own = &artifact.manifest().about.dtype;
                if own == dtype.name() {
                    return Ok(());
                }
                format!("was compiled in {own}")
            }
            (Form::Optimum(_) | Form::Onnx { .. }, Some(_)) => "has types of its own".to_owned(),
        };
        Err(Failure::usage(format!(
            "{}: the graph {own}, --dtype cannot change it",
            self.place(part)
        ))
        .hint("give --dtype for a diffusers directory, or export the graph in that type"))
    }

    fn place(&self, part: &Part) -> String {
        match part {
            Part::Component(component) => format!("{}: {}", self.path.display(), component.name()),
            Part::Graph => self.path.display().to_string(),
        }
    }
}

fn open_pipeline<'a>(folder: &'a Folder, path: &Path) -> Result<Pipeline<'a>, Failure> {
    diffusers::open(folder).map_err(|error| imported_badly(&path.display().to_string(), &error))
}

/// An import that failed, with the hint that it brings.
fn imported_badly(place: &str, error: &graphs::ImportError) -> Failure {
    let failure = Failure::job(format!("{place}: {error}"));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn options(dtype: DType, timestep: Timestep) -> models::Options {
    models::Options {
        dtype,
        timestep,
        hidden_states: false,
    }
}

/// One timestep for all pictures, unless several are given.
fn timestep_form(given: &BTreeMap<String, Tensor>) -> Timestep {
    match given.get("timestep").map(Tensor::elements) {
        None | Some(0 | 1) => Timestep::Scalar,
        Some(_) => Timestep::PerSample,
    }
}
