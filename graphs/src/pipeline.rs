//! Models in files: the description of the pipeline, and the graph of each component.
//!
//! Takes a [`Source`] in diffusers' or optimum's layout, or one ONNX graph; gives the pipeline as
//! data, and functions with their weights when they are asked for. What a run feeds an input is
//! read off the names that diffusers and optimum use. Weights are not read before.

use std::collections::{BTreeMap, BTreeSet};

use compiler::graph::{Func, Role, TensorType};
use compiler::program::pipeline::{
    Component, Extent, Input, InputRole, Latents, Pipeline, Prompts, SizeId, Task, TextEncoder,
};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;

use crate::diffusers::Network;
use crate::distilled;
use crate::models::{self, ConfigError, IgnoredKeys, Timestep, unet};
use crate::onnx::{self, Request, Signature};
use crate::source::{Source, SourceError};
use crate::{ImportError, Imported, diffusers, optimum, pipeline_class};

/// The networks of a pipeline and what they are for, in the order of a run.
const TASKS: [(&str, Task); 5] = [
    ("text_encoder", Task::EncodeText),
    ("text_encoder_2", Task::EncodeText),
    ("unet", Task::Denoise),
    ("vae_decoder", Task::Decode),
    ("vae_encoder", Task::EncodePicture),
];

/// The name of a graph that is no component.
const GRAPH: &str = "graph";

/// Tokens of a prompt where no graph says otherwise: CLIP's.
const TOKENS: usize = 77;

/// Channels of latents where no graph says otherwise.
const CHANNELS: usize = 4;

/// What results of text encoders begin with that are the tokens before a layer or after the last.
const HIDDEN_STATES: &str = "hidden_states.";

/// The size conditioning of SDXL (diffusers `_get_add_time_ids`).
const SIZE_IDS: [SizeId; 6] = [
    SizeId::OriginalHeight,
    SizeId::OriginalWidth,
    SizeId::CropTop,
    SizeId::CropLeft,
    SizeId::TargetHeight,
    SizeId::TargetWidth,
];

/// The same of its refiner.
const SIZE_IDS_REFINER: [SizeId; 5] = [
    SizeId::OriginalHeight,
    SizeId::OriginalWidth,
    SizeId::CropTop,
    SizeId::CropLeft,
    SizeId::AestheticsScore,
];

/// A model in files that is not compiled.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it is.
    pub pipeline: Pipeline,
    /// Keys of its configurations that nothing reads, as diffusers ignores them too.
    pub ignored: Vec<IgnoredKeys>,
    /// Parts that its index says there are none of, whatever folders there are.
    pub absent: BTreeSet<String>,
    /// The graph of each component, in order.
    graphs: Vec<Graph>,
}

/// Where a component's graph comes from.
#[derive(Debug, Clone)]
enum Graph {
    /// Written from a configuration.
    Diffusers(Box<diffusers::Component>),
    /// Read from the file of this path.
    Onnx(String),
}

/// What a layout says of a pipeline beside its graphs.
struct Facts {
    class: Option<String>,
    absent_is_zero: Option<bool>,
    aesthetics_score: bool,
    scaling_factor: f64,
    shift_factor: f64,
    pixels: usize,
    /// Rows and columns of latents that the network was trained with.
    latent_size: Option<[usize; 2]>,
    tokens: usize,
    /// Entries of the vocabulary of each text encoder, where its configuration tells.
    vocabularies: BTreeMap<String, usize>,
    scheduler_class: Option<String>,
    absent: BTreeSet<String>,
    ignored: Vec<IgnoredKeys>,
}

/// How a graph is imported.
#[derive(Debug, Clone)]
pub struct Options {
    /// The floating-point type of weights and inner values; that of an ONNX graph is in `request`.
    pub dtype: DType,
    /// The form of `timestep`, where the graph leaves it open.
    pub timestep: Timestep,
    /// What is known of the inputs of an ONNX graph, and the type in which it computes.
    pub request: Request,
}

/// Opens the model in a folder. Only configurations and the structure of ONNX graphs are read.
///
/// # Errors
/// When there is no model, or a component or its configuration is of a kind that is not supported.
/// If the kind of the whole pipeline is not supported, the error names that kind instead.
pub fn open(source: &dyn Source) -> Result<Model, ImportError> {
    open_any(source).map_err(|error| match pipeline_class::refusal(source) {
        Some(kind) => kind,
        None => error,
    })
}

fn open_any(source: &dyn Source) -> Result<Model, ImportError> {
    let (facts, graphs) = match optimum::open(source)? {
        Some(layout) => of_optimum(layout),
        None => of_diffusers(diffusers::open(source)?),
    };
    let mut found = Vec::new();
    for (name, task) in TASKS {
        if let Some((_, graph)) = graphs.iter().find(|(own, _)| own == name) {
            let signature = graph.signature(source).map_err(|error| error.of(name))?;
            found.push((name, task, signature, graph.clone()));
        }
    }
    let signatures: Vec<&Signature> = found.iter().map(|(_, _, own, _)| own).collect();
    let channels = latent_channels(&signatures);
    let size_ids: &[SizeId] = match facts.aesthetics_score {
        true => &SIZE_IDS_REFINER,
        false => &SIZE_IDS,
    };
    let counts = [channels, facts.tokens, size_ids.len()];
    let component = |(name, task, signature, _): &(&str, Task, Signature, Graph)| Component {
        name: (*name).to_owned(),
        task: *task,
        inputs: inputs(*task, signature, counts),
    };
    let components: Vec<Component> = found.iter().map(component).collect();
    let pipeline = Pipeline {
        prompts: prompts(&components, &signatures, &facts, size_ids),
        class: facts.class,
        components,
        latents: Latents {
            channels,
            size: facts.latent_size.unwrap_or(Latents::SIZE),
            pixels: facts.pixels,
            scaling_factor: facts.scaling_factor,
            shift_factor: facts.shift_factor,
        },
        scheduler: scheduler(source)?,
        scheduler_class: facts.scheduler_class,
        distilled: distilled::read(source),
    };
    let graphs = found.into_iter().map(|(_, _, _, graph)| graph).collect();
    Ok(Model {
        pipeline,
        ignored: facts.ignored,
        absent: facts.absent,
        graphs,
    })
}

fn of_optimum(layout: optimum::Layout) -> (Facts, Vec<(String, Graph)>) {
    let facts = Facts {
        class: layout.class,
        absent_is_zero: layout.empty_prompt_is_zero,
        aesthetics_score: layout.aesthetics_score,
        scaling_factor: layout.scaling_factor,
        shift_factor: layout.shift_factor,
        pixels: layout.pixels,
        latent_size: layout.latent_size,
        tokens: TOKENS,
        vocabularies: layout.vocabularies,
        scheduler_class: layout.scheduler_class,
        absent: layout.absent,
        ignored: Vec::new(),
    };
    let graphs = layout.graphs.into_iter();
    (
        facts,
        graphs
            .map(|(name, path)| (name, Graph::Onnx(path)))
            .collect(),
    )
}

fn of_diffusers(layout: diffusers::Layout) -> (Facts, Vec<(String, Graph)>) {
    let mut facts = Facts {
        class: layout.class,
        absent_is_zero: layout.empty_prompt_is_zero,
        aesthetics_score: layout.aesthetics_score,
        scaling_factor: 0.18215,
        shift_factor: 0.0,
        pixels: 8,
        latent_size: None,
        tokens: TOKENS,
        vocabularies: BTreeMap::new(),
        scheduler_class: layout.scheduler_class,
        absent: layout.absent,
        ignored: layout.ignored,
    };
    for component in &layout.components {
        match &component.network {
            Network::Unet(config) => facts.latent_size = config.sample_size,
            Network::VaeDecoder(config) => {
                facts.scaling_factor = config.scaling_factor;
                facts.shift_factor = config.shift_factor;
                facts.pixels = config.factor();
            }
            Network::VaeEncoder(_) => {}
            Network::TextEncoder(config) => {
                facts.tokens = config.tokens;
                let name = component.name.clone();
                facts.vocabularies.insert(name, config.vocabulary);
            }
        }
    }
    let graphs = layout.components.into_iter();
    let graphs = graphs.map(|own| (own.name.clone(), Graph::Diffusers(Box::new(own))));
    (facts, graphs.collect())
}

/// The model that is the one ONNX graph at `path`.
pub fn open_graph(path: &str) -> Model {
    let component = Component {
        name: GRAPH.to_owned(),
        task: Task::Graph,
        inputs: Vec::new(),
    };
    Model {
        pipeline: Pipeline::of_graph(component),
        ignored: Vec::new(),
        absent: BTreeSet::new(),
        graphs: vec![Graph::Onnx(path.to_owned())],
    }
}

impl Model {
    /// The inputs of a component with their declared types; extents that it leaves open are
    /// symbols.
    ///
    /// # Errors
    /// When there is no such component, or its graph is damaged.
    pub fn inputs(
        &self,
        source: &dyn Source,
        component: &str,
        timestep: Timestep,
    ) -> Result<Vec<(String, TensorType)>, ImportError> {
        match self.graph(component)? {
            Graph::Diffusers(own) => Ok(declared(&own.func(&with(DType::F32, timestep, false))?)),
            Graph::Onnx(path) => Ok(onnx::signature(source, path)?.inputs),
        }
    }

    /// The function of a component and its weights, read now.
    ///
    /// # Errors
    /// When there is no such component, its graph cannot be had, or its weights do not fit.
    pub fn import(
        &self,
        source: &dyn Source,
        component: &str,
        options: &Options,
    ) -> Result<Imported, ImportError> {
        match self.graph(component)? {
            Graph::Diffusers(own) => {
                let encoders = self.pipeline.prompts.encoders.iter();
                let mut encoders = encoders.filter(|encoder| encoder.component == component);
                let hidden = encoders.any(|encoder| encoder.hidden.starts_with(HIDDEN_STATES));
                own.build(source, &with(options.dtype, options.timestep, hidden))
            }
            Graph::Onnx(path) => Ok(onnx::import(source, path, &options.request)?.imported),
        }
    }

    /// The shape of each weight of a component, by its diffusers name; `None` for an exported
    /// graph, whose weights have other names. No weight is read.
    ///
    /// # Errors
    /// When there is no such component, or the numbers of its configuration do not fit each other.
    pub fn weight_shapes(
        &self,
        component: &str,
    ) -> Result<Option<BTreeMap<String, Vec<usize>>>, ImportError> {
        let Graph::Diffusers(own) = self.graph(component)? else {
            return Ok(None);
        };
        let func = own.func(&with(DType::F32, Timestep::Scalar, false))?;
        let weights = func.params(Role::Weight);
        let shapes =
            weights.map(|(_, name, ty)| (name.to_owned(), ty.extents().unwrap_or_default()));
        Ok(Some(shapes.collect()))
    }

    /// Takes away the hidden states that no run reads.
    pub fn without_spare_results(&self, component: &str, func: &mut Func) {
        let encoders = &self.pipeline.prompts.encoders;
        let is_read = |name: &str| {
            let mut encoders = encoders.iter();
            encoders.any(|encoder| encoder.component == component && encoder.hidden == name)
        };
        func.keep_results(|name| !name.starts_with(HIDDEN_STATES) || is_read(name));
    }

    /// The configuration of a denoising network that is written from one.
    pub fn unet(&self) -> Option<&unet::Config> {
        self.graphs.iter().find_map(|graph| match graph {
            Graph::Diffusers(component) => match &component.network {
                Network::Unet(config) => Some(config),
                Network::VaeEncoder(_) | Network::VaeDecoder(_) | Network::TextEncoder(_) => None,
            },
            Graph::Onnx(_) => None,
        })
    }

    fn graph(&self, component: &str) -> Result<&Graph, ImportError> {
        let mut all = self.pipeline.components.iter().zip(&self.graphs);
        let found = all.find(|(own, _)| own.name == component);
        found.map(|(_, graph)| graph).ok_or(ImportError::NoModel)
    }
}

impl Graph {
    fn signature(&self, source: &dyn Source) -> Result<Signature, ImportError> {
        match self {
            Graph::Diffusers(component) => {
                let func = component.func(&with(DType::F32, Timestep::Scalar, true))?;
                let results = func.results().iter();
                Ok(Signature {
                    inputs: declared(&func),
                    results: results.map(|(name, _)| name.clone()).collect(),
                })
            }
            Graph::Onnx(path) => Ok(onnx::signature(source, path)?),
        }
    }
}

fn with(dtype: DType, timestep: Timestep, hidden_states: bool) -> models::Options {
    models::Options {
        dtype,
        timestep,
        hidden_states,
    }
}

fn declared(func: &Func) -> Vec<(String, TensorType)> {
    let inputs = func.params(Role::Input);
    inputs
        .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
        .collect()
}

/// The channels of the latents that a denoising network or a decoder takes.
fn latent_channels(signatures: &[&Signature]) -> usize {
    let channels = |signature: &&Signature| {
        // Encoders of pictures take those as `sample`.
        if signature
            .results
            .iter()
            .any(|name| name == "latent_parameters")
        {
            return None;
        }
        let mut inputs = signature.inputs.iter();
        let (_, ty) = inputs.find(|(name, _)| name == "sample" || name == "latent_sample")?;
        ty.shape.get(1)?.extent()
    };
    signatures.iter().find_map(channels).unwrap_or(CHANNELS)
}

/// What a run feeds each input of a graph, by its name.
fn inputs(task: Task, signature: &Signature, counts: [usize; 3]) -> Vec<Input> {
    let first = signature.inputs.first();
    let batch = first.and_then(|(_, ty)| ty.shape.first());
    let input = |(name, ty): &(String, TensorType)| {
        let usual = usual(task, name, ty.rank(), counts);
        // What a graph fixes stays; a list of timesteps is as long as the batch where the graph
        // says so, else 1.
        let extent = |(axis, dim): (usize, &Dim)| match (dim.extent(), &usual) {
            (Some(extent), _) => Extent::Fixed(extent),
            (None, Some((_, shape))) if shape[axis].is_some() => {
                shape[axis].unwrap_or(Extent::Fixed(1))
            }
            (None, _) if Some(dim) == batch => Extent::Batch,
            (None, _) => Extent::Fixed(1),
        };
        Input {
            name: name.clone(),
            role: usual.as_ref().map(|(role, _)| *role),
            shape: ty.shape.iter().enumerate().map(extent).collect(),
        }
    };
    signature.inputs.iter().map(input).collect()
}

/// The role of an input in a run and its extents; `None` for those that are the graph's own.
fn usual(
    task: Task,
    name: &str,
    rank: usize,
    [channels, tokens, size_ids]: [usize; 3],
) -> Option<(InputRole, Vec<Option<Extent>>)> {
    use Extent::{Batch, Fixed, LatentColumns, LatentRows, PictureColumns, PictureRows};
    let picture = [Batch, Fixed(3), PictureRows, PictureColumns];
    let latents = [Batch, Fixed(channels), LatentRows, LatentColumns];
    let (role, shape): (InputRole, Vec<Option<Extent>>) = match (task, name) {
        (Task::EncodePicture, "sample") => (InputRole::Picture, picture.map(Some).into()),
        (_, "sample" | "latent_sample") => (InputRole::Latents, latents.map(Some).into()),
        (_, "timestep") => (InputRole::Timestep, vec![None; rank.min(1)]),
        (_, "input_ids") => (InputRole::TokenIds, vec![Some(Batch), Some(Fixed(tokens))]),
        (_, "encoder_hidden_states") => {
            let shape = vec![Some(Batch), Some(Fixed(tokens)), None];
            (InputRole::HiddenStates, shape)
        }
        (_, "timestep_cond") => (InputRole::GuidanceScale, vec![Some(Batch), None]),
        (_, "text_embeds") => (InputRole::PooledText, vec![Some(Batch), None]),
        (_, "time_ids") => (InputRole::SizeIds, vec![Some(Batch), Some(Fixed(size_ids))]),
        (_, _) => return None,
    };
    (shape.len() == rank).then_some((role, shape))
}

/// How prompts condition the denoising network: where it takes pooled text, as in SDXL, by the
/// penultimate hidden states of all encoders, else by the first one's result.
///
/// # Source
/// diffusers `StableDiffusionXLPipeline.encode_prompt`, `StableDiffusionPipeline.encode_prompt`;
/// their default guidance scales.
fn prompts(
    components: &[Component],
    signatures: &[&Signature],
    facts: &Facts,
    size_ids: &[SizeId],
) -> Prompts {
    let has = |role| components.iter().any(|own| own.input(role).is_some());
    let is_pooled = has(InputRole::PooledText);
    let mut encoders: Vec<TextEncoder> = Vec::new();
    for (component, signature) in components.iter().zip(signatures) {
        if component.task != Task::EncodeText || !is_pooled && !encoders.is_empty() {
            continue;
        }
        let mut results = signature.results.iter();
        let states = results
            .clone()
            .filter(|name| name.starts_with(HIDDEN_STATES));
        let penultimate = states.count().saturating_sub(2);
        let pools = is_pooled && encoders.iter().all(|earlier| earlier.pooled.is_none());
        let pooled = results.find(|name| pools && *name == "text_embeds");
        encoders.push(TextEncoder {
            component: component.name.clone(),
            tokenizer: component.name.replace("text_encoder", "tokenizer"),
            hidden: match is_pooled {
                true => format!("{HIDDEN_STATES}{penultimate}"),
                false => "last_hidden_state".to_owned(),
            },
            pooled: pooled.cloned(),
            vocabulary: facts.vocabularies.get(&component.name).copied(),
        });
    }
    Prompts {
        encoders,
        absent_is_zero: is_pooled && facts.absent_is_zero.unwrap_or(true),
        size_ids: match has(InputRole::SizeIds) {
            true => size_ids.to_vec(),
            false => Vec::new(),
        },
        guidance_scale: if is_pooled { 5.0 } else { 7.5 },
    }
}

/// The text of the sampler's configuration, if it is there.
fn scheduler(source: &dyn Source) -> Result<Option<String>, ImportError> {
    let file = "scheduler/scheduler_config.json";
    let bytes = match source.read(file) {
        Err(SourceError::NotFound { .. }) => return Ok(None),
        read => read?,
    };
    let text = String::from_utf8(bytes.into());
    text.map(Some).map_err(|error| {
        ImportError::from(ConfigError::Format {
            file: file.to_owned(),
            reason: error.to_string(),
        })
    })
}
