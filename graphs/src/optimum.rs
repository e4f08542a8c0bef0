//! Directories of ONNX graphs as optimum writes them.
//!
//! Takes a [`Source`], finds the graph of each component and the facts beside them that sampling
//! needs; imports no graph itself (see [`crate::onnx`]).
//!
//! Layout: `unet/model.onnx`, `text_encoder/model.onnx`, `vae_decoder/model.onnx`,
//! `vae_encoder/model.onnx`, SDXL also `text_encoder_2/model.onnx`, each beside a `config.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::ImportError;
use crate::models::ConfigError;
use crate::models::fields::{Fields, as_count};
use crate::source::Source;

/// What graphs are called.
const GRAPH: &str = "/model.onnx";

/// The folders of text encoders.
const TEXT_ENCODERS: [&str; 2] = ["text_encoder", "text_encoder_2"];

/// More entries than any vocabulary has.
const VOCABULARY_MAX: usize = 1 << 24;

/// Extents that can be sizes of latents.
const SIZE_MAX: usize = 1 << 16;

/// A directory of ONNX graphs.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The name of each component and the path of its graph.
    pub(crate) graphs: Vec<(String, String)>,
    /// The class of the pipeline, such as `StableDiffusionPipeline`, if `model_index.json` says so.
    pub(crate) class: Option<String>,
    /// Whether a negative prompt that is not given means embeddings of zeros, if it says so.
    pub(crate) empty_prompt_is_zero: Option<bool>,
    /// Whether size conditioning holds an aesthetics score.
    pub(crate) aesthetics_score: bool,
    /// The factor between latents and what the decoder is fed with.
    pub(crate) scaling_factor: f64,
    /// What is added to the latents after division by the factor.
    pub(crate) shift_factor: f64,
    /// Pixels per latent, along each axis.
    pub(crate) pixels: usize,
    /// Rows and columns of the latents that the network was made for, if it says so.
    pub(crate) latent_size: Option<[usize; 2]>,
    /// The class of the sampler, if `model_index.json` names it.
    pub(crate) scheduler_class: Option<String>,
    /// Parts that `model_index.json` says there are none of.
    pub(crate) absent: BTreeSet<String>,
    /// Entries of the vocabulary of each text encoder whose configuration tells.
    pub(crate) vocabularies: BTreeMap<String, usize>,
}

/// Looks for graphs; `None` where there is none.
///
/// # Errors
/// When a file that is there cannot be read, or a configuration is damaged.
pub(crate) fn open(source: &dyn Source) -> Result<Option<Layout>, ImportError> {
    let files = source.list()?;
    let graph = |path: &String| {
        let name = path
            .strip_suffix(GRAPH)
            .filter(|name| !name.contains('/'))?;
        Some((name.to_owned(), path.clone()))
    };
    let graphs: Vec<(String, String)> = files.iter().filter_map(graph).collect();
    if graphs.is_empty() {
        return Ok(None);
    }
    let fields = |paths: &[&str]| {
        let there = |path: &&&str| files.iter().any(|file| file == **path);
        let Some(path) = paths.iter().find(there) else {
            return Ok(Fields::new("", serde_json::Map::new()));
        };
        let text = source.read(path)?;
        let map = serde_json::from_slice(&text).map_err(|error| ConfigError::Format {
            file: (*path).to_owned(),
            reason: error.to_string(),
        })?;
        Ok::<Fields, ImportError>(Fields::new(path, map))
    };
    let mut index = fields(&["model_index.json"])?;
    let mut unet = fields(&["unet/config.json"])?;
    let mut vae = fields(&[
        "vae_decoder/config.json",
        "vae/config.json",
        "vae_encoder/config.json",
    ])?;
    let mut vocabularies = BTreeMap::new();
    for name in TEXT_ENCODERS {
        let mut own = fields(&[&format!("{name}/config.json")])?;
        let size = own.optional_count("vocab_size", VOCABULARY_MAX)?;
        vocabularies.extend(size.map(|size| (name.to_owned(), size)));
    }
    let absent = index.absent_parts();
    let levels = vae.take("block_out_channels");
    let levels = levels.as_ref().and_then(Value::as_array).map(Vec::len);
    Ok(Some(Layout {
        graphs,
        class: index.class(),
        empty_prompt_is_zero: index.optional_flag("force_zeros_for_empty_prompt")?,
        aesthetics_score: index.flag("requires_aesthetics_score", false)?,
        scaling_factor: vae.number("scaling_factor", 0.18215)?,
        shift_factor: vae.number("shift_factor", 0.0)?,
        pixels: 1 << (levels.unwrap_or(4).clamp(1, 8) - 1),
        latent_size: unet.take("sample_size").as_ref().and_then(latent_size),
        scheduler_class: index.component_class("scheduler"),
        absent,
        vocabularies,
    }))
}

/// `sample_size`, one number or two; numbers that cannot be sizes say nothing.
fn latent_size(value: &Value) -> Option<[usize; 2]> {
    let size = |value: &Value| as_count(value, 1, SIZE_MAX);
    match value {
        Value::Array(pair) if pair.len() == 2 => Some([size(&pair[0])?, size(&pair[1])?]),
        value => size(value).map(|size| [size, size]),
    }
}
