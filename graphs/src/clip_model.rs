//! Both halves of a CLIP in transformers' layout: `config.json` and one checkpoint.
//!
//! Takes a source, returns the functions of texts and of pictures with their weights. The
//! tokenizer's files beside them are not read here.

use serde_json::{Map, Value};

use crate::models::clip::{self, vision};
use crate::models::{ConfigError, Options, Timestep};
use crate::source::Source;
use crate::{ImportError, Imported, checkpoint};
use compiler::value::dtype::DType;

/// The name of the configuration.
const CONFIG: &str = "config.json";

/// Features of embeddings where the configuration does not say.
const PROJECTION: usize = 512;

/// A CLIP.
#[derive(Debug, Clone)]
pub struct ClipModel {
    /// `input_ids` i64 `[batch, tokens]` → `text_embeds` `[batch, features]`, beside
    /// `last_hidden_state`.
    pub text: Imported,
    /// `pixel_values` f32 `[batch, 3, size, size]` → `image_embeds` `[batch, features]`.
    pub vision: Imported,
    /// Rows and columns of a picture, in pixels.
    pub size: usize,
}

/// Reads a CLIP.
///
/// # Errors
/// When a file is missing or damaged, the configuration is of another model or of a variant that is
/// not built, or the weights do not fit it.
pub fn open(source: &dyn Source) -> Result<ClipModel, ImportError> {
    let bytes = source.read(CONFIG)?;
    let format = |reason: String| ConfigError::Format {
        file: CONFIG.to_owned(),
        reason,
    };
    let map: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| format(error.to_string()))?;
    if map.get("model_type").and_then(Value::as_str) != Some("clip") {
        return Err(ConfigError::Value {
            file: CONFIG.to_owned(),
            key: "model_type".to_owned(),
            found: map
                .get("model_type")
                .map_or("absent".to_owned(), Value::to_string),
            wanted: "\"clip\"".to_owned(),
        }
        .into());
    }
    let projection = map.get("projection_dim").and_then(Value::as_u64);
    let projection = projection.map_or(PROJECTION, |own| own as usize);
    let part = |key: &str| {
        map.get(key)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let mut text = part("text_config");
    // The model projects to its own width, whatever this part says.
    text.insert("projection_dim".to_owned(), projection.into());
    let text = serde_json::to_vec(&text).map_err(|error| format(error.to_string()))?;
    let text = clip::Config::parse(CONFIG, &text, Some(true))?;
    let pictures = vision::VisionConfig::parse(CONFIG, part("vision_config"), projection)?;
    let options = Options {
        dtype: DType::F32,
        timestep: Timestep::Scalar,
        hidden_states: false,
    };
    let tensors = checkpoint::load(source, "", "model")?;
    let tensors = tensors.into_iter();
    let tensors: checkpoint::Tensors = tensors
        .map(|(name, tensor)| (name, source.stored(tensor)))
        .collect();
    let of_pictures =
        |name: &str| name.starts_with("vision_model.") || name == "visual_projection.weight";
    // The scale of cosines in training belongs to neither half.
    let is_spare = |name: &str| name == "logit_scale" || name.ends_with(".position_ids");
    let half = |func: compiler::graph::Func, is_own: &dyn Fn(&str) -> bool| {
        let weights = checkpoint::fit(&func, tensors.clone(), |name| {
            is_spare(name) || !is_own(name)
        })?;
        Ok::<Imported, ImportError>(Imported { func, weights })
    };
    Ok(ClipModel {
        text: half(clip::build("text_model", &text, &options)?, &|name| {
            !of_pictures(name)
        })?,
        vision: half(
            vision::build("vision_model", &pictures, &options)?,
            &of_pictures,
        )?,
        size: pictures.size,
    })
}
