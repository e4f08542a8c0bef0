//! A pipeline in diffusers' layout: `model_index.json` and one folder for each component.
//!
//! Takes a [`Source`], gives a description of what is there; the functions and their weights are
//! made when they are asked for. It reads no scheduler and no tokenizer.

use std::collections::{BTreeMap, BTreeSet};

use compiler::graph::{Func, Role};
use serde_json::{Value, json};

use crate::checkpoint::{self, Tensors};
use crate::models::fields::Fields;
use crate::models::{ConfigError, IgnoredKeys, Options, clip, unet, vae};
use crate::source::Source;
use crate::{ImportError, Imported};

/// A pipeline, or the part of one that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The class that wrote it, such as `StableDiffusionPipeline`, if it says so.
    pub class: Option<String>,
    /// The networks.
    pub components: Vec<Component>,
    /// Whether a negative prompt that is not given means embeddings of zeros (SDXL), if it says so.
    pub empty_prompt_is_zero: Option<bool>,
    /// Whether size conditioning holds an aesthetics score (SDXL's refiner).
    pub aesthetics_score: bool,
    /// The class of the sampler, if the index names it.
    pub scheduler_class: Option<String>,
    /// Parts that the index says there are none of.
    pub absent: BTreeSet<String>,
    /// Keys of configurations that nothing reads, as diffusers ignores them too.
    pub ignored: Vec<IgnoredKeys>,
}

impl Layout {
    /// The component `name`: `unet`, `vae_encoder`, `vae_decoder`, `text_encoder` or
    /// `text_encoder_2`.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components
            .iter()
            .find(|component| component.name == name)
    }
}

/// One network of a pipeline, not loaded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Its name, which its function bears too.
    pub name: String,
    /// What it looks like.
    pub network: Network,
    folder: String,
}

/// What a component looks like.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A denoising network.
    Unet(unet::Config),
    /// The half of an autoencoder that makes latents.
    VaeEncoder(vae::Config),
    /// The half of an autoencoder that makes images.
    VaeDecoder(vae::Config),
    /// A text encoder.
    TextEncoder(clip::Config),
}

/// Opens the pipeline in `source`, or the single component whose `config.json` lies there.
/// Only configurations are read. Without `model_index.json` every component that
/// is there belongs to the pipeline.
///
/// # Errors
/// When there is no pipeline, or one of its components or their configurations is of a kind that
/// is not supported.
pub fn open(source: &dyn Source) -> Result<Layout, ImportError> {
    let files = source.list()?;
    let has = |path: &str| files.iter().any(|file| file == path);
    let index = match has(INDEX) {
        true => Index::parse(&source.read(INDEX)?)?,
        false if has("config.json") => return open_component(source),
        false => Index::from_files(has),
    };
    if index.networks.is_empty() {
        return Err(ImportError::NoModel);
    }
    let mut components = Vec::new();
    let mut ignored = vec![IgnoredKeys {
        file: INDEX.to_owned(),
        keys: index.ignored,
    }];
    for (name, class) in &index.networks {
        let path = format!("{name}/config.json");
        let text = source.read(&path)?;
        if !index.is_written {
            class.expect(&path, &text)?;
        }
        let mut found = describe(*class, &path, &text)?;
        let keys = found.first().map(|(_, network)| network.ignored());
        ignored.extend(keys.map(|keys| IgnoredKeys {
            file: path.clone(),
            keys: keys.to_vec(),
        }));
        for (_, network) in &mut found {
            if let (Network::Unet(config), true) = (network, index.aesthetics_score) {
                config.use_aesthetics_score();
            }
        }
        components.extend(found.into_iter().map(|(half, network)| Component {
            name: format!("{name}{half}"),
            network,
            folder: name.clone(),
        }));
    }
    ignored.retain(|ignored| !ignored.keys.is_empty());
    Ok(Layout {
        class: index.class,
        components,
        empty_prompt_is_zero: index.empty_prompt_is_zero,
        aesthetics_score: index.aesthetics_score,
        scheduler_class: index.scheduler_class,
        absent: index.absent,
        ignored,
    })
}

impl Network {
    fn ignored(&self) -> &[String] {
        match self {
            Network::Unet(config) => &config.ignored,
            Network::VaeEncoder(config) | Network::VaeDecoder(config) => &config.ignored,
            Network::TextEncoder(config) => &config.ignored,
        }
    }
}

/// The description of a pipeline.
const INDEX: &str = "model_index.json";

/// The classes of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unet,
    Vae,
    /// Whether it is known to project the pooled text.
    Text(Option<bool>),
}

impl Class {
    /// Refuses the configuration `text` of another class. Only for files that no index speaks of:
    /// an index decides whatever the configuration says, as in diffusers.
    fn expect(self, file: &str, text: &[u8]) -> Result<(), ConfigError> {
        Fields::parse(file, text)?.expect_class(match self {
            Class::Unet => "UNet2DConditionModel",
            Class::Vae => "AutoencoderKL",
            Class::Text(_) => "CLIPTextModel",
        })
    }
}

/// What `model_index.json` says.
struct Index {
    class: Option<String>,
    networks: BTreeMap<String, Class>,
    empty_prompt_is_zero: Option<bool>,
    aesthetics_score: bool,
    scheduler_class: Option<String>,
    absent: BTreeSet<String>,
    ignored: Vec<String>,
    /// Whether there is such a file.
    is_written: bool,
}

/// The components that are networks, and their classes.
const NETWORKS: [(&str, &[(&str, Class)]); 4] = [
    ("text_encoder", &TEXT_CLASSES),
    ("text_encoder_2", &TEXT_CLASSES),
    ("unet", &[("UNet2DConditionModel", Class::Unet)]),
    ("vae", &[("AutoencoderKL", Class::Vae)]),
];
const TEXT_CLASSES: [(&str, Class); 2] = [
    ("CLIPTextModel", Class::Text(Some(false))),
    ("CLIPTextModelWithProjection", Class::Text(Some(true))),
];
/// The folders of tokenizers.
const TOKENIZERS: [&str; 2] = ["tokenizer", "tokenizer_2"];
/// What a pipeline may have beside its networks without their results depending on it.
const IRRELEVANT: [&str; 5] = [
    "add_watermarker",
    "feature_extractor",
    "image_encoder",
    "requires_safety_checker",
    "safety_checker",
];

impl Index {
    fn parse(text: &[u8]) -> Result<Index, ImportError> {
        let map: serde_json::Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| ConfigError::Format {
                file: INDEX.to_owned(),
                reason: error.to_string(),
            })?;
        let mut fields = Fields::new(INDEX, map);
        let absent = fields.absent_parts();
        let mut networks = BTreeMap::new();
        for (name, classes) in NETWORKS {
            if let Some(class) = fields.component(name, classes)? {
                networks.insert(name.to_owned(), class);
            }
        }
        for name in TOKENIZERS {
            fields.component(name, &[("CLIPTokenizer", ()), ("CLIPTokenizerFast", ())])?;
        }
        fields.irrelevant(&IRRELEVANT);
        fields.only("is_cosxl_edit", json!(false))?;
        Ok(Index {
            class: fields.class(),
            networks,
            empty_prompt_is_zero: fields.optional_flag("force_zeros_for_empty_prompt")?,
            aesthetics_score: fields.flag("requires_aesthetics_score", false)?,
            scheduler_class: fields.component_class("scheduler"),
            absent,
            ignored: fields.finish(),
            is_written: true,
        })
    }

    fn from_files(has: impl Fn(&str) -> bool) -> Index {
        let classes = [
            ("text_encoder", Class::Text(None)),
            ("text_encoder_2", Class::Text(Some(true))),
            ("unet", Class::Unet),
            ("vae", Class::Vae),
        ];
        let there = |(name, _): &(&str, Class)| has(&format!("{name}/config.json"));
        let there = classes.into_iter().filter(there);
        Index {
            class: None,
            networks: there
                .map(|(name, class)| (name.to_owned(), class))
                .collect(),
            empty_prompt_is_zero: None,
            aesthetics_score: false,
            scheduler_class: None,
            absent: BTreeSet::new(),
            ignored: Vec::new(),
            is_written: false,
        }
    }
}

/// Opens a folder that is itself a component.
fn open_component(source: &dyn Source) -> Result<Layout, ImportError> {
    let file = "config.json";
    let text = source.read(file)?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| ConfigError::Format {
        file: file.to_owned(),
        reason: error.to_string(),
    })?;
    let (name, class) = match (value["_class_name"].as_str(), value["model_type"].as_str()) {
        (Some("UNet2DConditionModel"), _) => ("unet", Class::Unet),
        (Some("AutoencoderKL"), _) => ("vae", Class::Vae),
        (_, Some("clip_text_model")) => ("text_encoder", Class::Text(None)),
        (_, _) => return Err(ImportError::NoModel),
    };
    let found = describe(class, file, &text)?;
    let keys = found.first().map(|(_, network)| network.ignored().to_vec());
    let component = |(half, network)| Component {
        name: format!("{name}{half}"),
        network,
        folder: String::new(),
    };
    Ok(Layout {
        class: None,
        components: found.into_iter().map(component).collect(),
        empty_prompt_is_zero: None,
        aesthetics_score: false,
        scheduler_class: None,
        absent: BTreeSet::new(),
        ignored: match keys.unwrap_or_default() {
            keys if keys.is_empty() => Vec::new(),
            keys => vec![IgnoredKeys {
                file: file.to_owned(),
                keys,
            }],
        },
    })
}

/// The networks that a configuration describes, with what tells their names apart.
fn describe(
    class: Class,
    file: &str,
    text: &[u8],
) -> Result<Vec<(&'static str, Network)>, ConfigError> {
    Ok(match class {
        Class::Unet => vec![("", Network::Unet(unet::Config::parse(file, text)?))],
        Class::Vae => {
            let config = vae::Config::parse(file, text)?;
            let encoder = Network::VaeEncoder(config.clone());
            vec![
                ("_encoder", encoder),
                ("_decoder", Network::VaeDecoder(config)),
            ]
        }
        Class::Text(projected) => {
            let config = clip::Config::parse(file, text, projected)?;
            vec![("", Network::TextEncoder(config))]
        }
    })
}

impl Component {
    /// The function alone, without weights; its name is the component's.
    ///
    /// # Errors
    /// When the configuration's numbers do not fit each other.
    pub fn func(&self, options: &Options) -> Result<Func, ImportError> {
        let name = &self.name;
        Ok(match &self.network {
            Network::Unet(config) => unet::build(name, config, options)?,
            Network::VaeEncoder(config) => vae::build_encoder(name, config, options)?,
            Network::VaeDecoder(config) => vae::build_decoder(name, config, options)?,
            Network::TextEncoder(config) => clip::build(name, config, options)?,
        })
    }

    /// The function and its weights, read now from the source in which the layout was found.
    ///
    /// # Errors
    /// When the configuration's numbers do not fit each other, or the checkpoint does not fit
    /// the configuration: a tensor missing, left over, or of another shape.
    pub fn build(&self, source: &dyn Source, options: &Options) -> Result<Imported, ImportError> {
        let func = self.func(options)?;
        let stem = match &self.network {
            Network::Unet(_) | Network::VaeEncoder(_) | Network::VaeDecoder(_) => {
                "diffusion_pytorch_model"
            }
            Network::TextEncoder(_) => "model",
        };
        let loaded = checkpoint::load(source, &self.folder, stem)?;
        let mut tensors = Tensors::new();
        for (name, tensor) in loaded {
            let (modern, tensor) = match &self.network {
                Network::Unet(_) => (name.clone(), tensor),
                Network::VaeEncoder(_) | Network::VaeDecoder(_) => vae::modernise(&name, tensor),
                Network::TextEncoder(_) => (clip::modernise(&name), tensor),
            };
            // Where a checkpoint has both spellings one of them is left over, and refused so.
            let free = !tensors.contains_key(&modern);
            tensors.insert(if free { modern } else { name }, source.stored(tensor));
        }
        let other_half = self.other_half(options)?;
        let weights = checkpoint::fit(&func, tensors, |name| match &self.network {
            Network::Unet(_) => false,
            Network::VaeEncoder(_) | Network::VaeDecoder(_) => other_half.contains(name),
            Network::TextEncoder(_) => clip::is_spare(name),
        })?;
        Ok(Imported { func, weights })
    }

    /// The weights of the other half of an autoencoder, which lie in the same checkpoint.
    fn other_half(&self, options: &Options) -> Result<BTreeSet<String>, ImportError> {
        let func = match &self.network {
            Network::Unet(_) | Network::TextEncoder(_) => return Ok(BTreeSet::new()),
            Network::VaeEncoder(config) => vae::build_decoder("", config, options)?,
            Network::VaeDecoder(config) => vae::build_encoder("", config, options)?,
        };
        let weights = func.params(Role::Weight);
        Ok(weights.map(|(_, name, _)| name.to_owned()).collect())
    }
}
