//! Directories of ONNX graphs as optimum writes them.
//!
//! Takes a [`Source`], finds the graph of each component and the facts beside them that sampling
//! needs; imports no graph itself (see [`crate::onnx`]).
//!
//! Layout: `unet/model.onnx`, `text_encoder/model.onnx`, `vae_decoder/model.onnx`,
//! `vae_encoder/model.onnx`, each beside a `config.json`; `scheduler/scheduler_config.json`;
//! `tokenizer/`.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use crate::source::{Source, SourceError};

/// The components whose graphs are looked for.
pub const COMPONENTS: [&str; 4] = ["text_encoder", "unet", "vae_decoder", "vae_encoder"];

/// A directory of ONNX graphs.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The path of each component's graph.
    pub graphs: BTreeMap<&'static str, String>,
    /// The class of the pipeline, such as `StableDiffusionPipeline`, if `model_index.json` says so.
    pub class: Option<String>,
    /// `scheduler_config.json`, verbatim.
    pub scheduler: Option<String>,
    /// The factor between latents and what the decoder is fed with.
    pub scaling_factor: f64,
    /// What is added to the latents after division by the factor.
    pub shift_factor: f64,
    /// Pixels per latent, along each axis.
    pub vae_scale: usize,
    /// Rows and columns of the latents that the network was made for, if it says so.
    pub latent_size: Option<[usize; 2]>,
}

/// Why a directory cannot be read.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A configuration is not JSON, or not text.
    #[error("{path:?} is not JSON: {reason}")]
    Json {
        /// The file.
        path: String,
        /// What the reader met.
        reason: String,
    },
    /// A configuration holds something else than expected.
    #[error("{path:?} has {key:?} = {found}, wanted {wanted}")]
    Config {
        /// The file.
        path: String,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What was wanted.
        wanted: &'static str,
    },
}

/// Looks for graphs; `None` where there is none.
///
/// # Errors
/// When a file that is there cannot be read, or a configuration is damaged.
pub fn open(source: &dyn Source) -> Result<Option<Layout>, LayoutError> {
    let files = source.list()?;
    let graphs: BTreeMap<&'static str, String> = COMPONENTS
        .into_iter()
        .map(|component| (component, format!("{component}/model.onnx")))
        .filter(|(_, path)| files.contains(path))
        .collect();
    if graphs.is_empty() {
        return Ok(None);
    }
    let vae_path = [
        "vae_decoder/config.json",
        "vae/config.json",
        "vae_encoder/config.json",
    ]
    .into_iter()
    .find(|path| files.iter().any(|file| file == path));
    let vae = json(source, vae_path)?;
    let unet_path = Some("unet/config.json").filter(|path| files.iter().any(|file| file == path));
    let unet = json(source, unet_path)?;
    let index = json(
        source,
        Some(INDEX).filter(|&path| files.iter().any(|file| file == path)),
    )?;
    let class = index.get("_class_name").and_then(Value::as_str);
    let scheduler = match files.iter().any(|file| file == SCHEDULER) {
        true => Some(text(source, SCHEDULER)?),
        false => None,
    };
    let levels = vae
        .get("block_out_channels")
        .and_then(Value::as_array)
        .map(Vec::len);
    Ok(Some(Layout {
        graphs,
        class: class.map(str::to_owned),
        scheduler,
        scaling_factor: number(&vae, vae_path, "scaling_factor", 0.18215)?,
        shift_factor: number(&vae, vae_path, "shift_factor", 0.0)?,
        vae_scale: 1 << (levels.unwrap_or(4).clamp(1, 8) - 1),
        latent_size: latent_size(&unet),
    }))
}

const INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

fn text(source: &dyn Source, path: &str) -> Result<String, LayoutError> {
    let bytes = source.read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| LayoutError::Json {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(text.to_owned())
}

fn json(source: &dyn Source, path: Option<&str>) -> Result<Value, LayoutError> {
    let Some(path) = path else {
        return Ok(Value::Null);
    };
    serde_json::from_str(&text(source, path)?).map_err(|error| LayoutError::Json {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// `sample_size`, one number or two; numbers that cannot be sizes say nothing.
fn latent_size(config: &Value) -> Option<[usize; 2]> {
    let size = |value: &Value| {
        let size = usize::try_from(value.as_u64()?).ok()?;
        (1..=1 << 16).contains(&size).then_some(size)
    };
    match config.get("sample_size")? {
        Value::Array(pair) if pair.len() == 2 => Some([size(&pair[0])?, size(&pair[1])?]),
        value => size(value).map(|size| [size, size]),
    }
}

/// A finite, positive or zero number of a configuration; `usual` where it is absent or null.
fn number(
    config: &Value,
    path: Option<&str>,
    key: &'static str,
    usual: f64,
) -> Result<f64, LayoutError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(usual),
        Some(value) => match value.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            Some(_) | None => Err(LayoutError::Config {
                path: path.unwrap_or_default().to_owned(),
                key,
                found: value.to_string(),
                wanted: "a number",
            }),
        },
    }
}
