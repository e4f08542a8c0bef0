//! The picture half of a CLIP: transformers' `CLIPVisionModelWithProjection`.
//!
//! Takes a configuration, gives the function `pixel_values` → `image_embeds`. It resizes no picture.

use compiler::graph::{Func, GraphError, Value};
use compiler::ops::{Broadcast, Concat, Conv, GeluForm, Slice};
use compiler::value::dim::Dim;
use serde_json::{Map, json};

use super::config::{ACTIVATIONS, IRRELEVANT, LAYERS_MAX, WIDTH_MAX};
use super::{Block, layer};
use crate::models::Options;
use crate::models::fields::{ConfigError, Fields};
use crate::models::layers::Layers;

/// What the encoder looks like, with every default resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Rows and columns of a picture, in pixels.
    pub size: usize,
    /// Rows and columns of a patch, which divide the picture's.
    pub patch: usize,
    /// Features of a patch.
    pub width: usize,
    /// Features inside the feed-forward networks.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads, which divide the width.
    pub heads: usize,
    /// The activation of the feed-forward networks.
    pub activation: GeluForm,
    /// Epsilon of every normalisation.
    pub epsilon: f64,
    /// Features of the embedding.
    pub projection: usize,
}

impl VisionConfig {
    /// The configuration in `map`, the object `vision_config` of `file`, of a model that projects to
    /// `projection` features.
    ///
    /// # Errors
    /// When a key asks for a variant that is not built, naming it.
    ///
    /// # Source
    /// transformers `CLIPVisionConfig`: its keys and their defaults.
    pub fn parse(
        file: &str,
        map: Map<String, serde_json::Value>,
        projection: usize,
    ) -> Result<VisionConfig, ConfigError> {
        let mut fields = Fields::new(file, map);
        fields.only("model_type", json!("clip_vision_model"))?;
        fields.only("num_channels", json!(3))?;
        fields.irrelevant(&IRRELEVANT);
        fields.irrelevant(&["architectures", "projection_dim"]);
        let config = VisionConfig {
            size: fields.count("image_size", 224, WIDTH_MAX)?,
            patch: fields.count("patch_size", 32, WIDTH_MAX)?,
            width: fields.count("hidden_size", 768, WIDTH_MAX)?,
            hidden: fields.count("intermediate_size", 3072, WIDTH_MAX)?,
            layers: fields.count("num_hidden_layers", 12, LAYERS_MAX)?,
            heads: fields.count("num_attention_heads", 12, WIDTH_MAX)?,
            activation: fields.name("hidden_act", "quick_gelu", &ACTIVATIONS)?,
            epsilon: fields.number("layer_norm_eps", 1e-5)?,
            projection,
        };
        for (key, found, whole) in [
            ("num_attention_heads", config.heads, config.width),
            ("patch_size", config.patch, config.size),
        ] {
            if !whole.is_multiple_of(found) {
                let wanted = format!("a divisor of {whole}");
                return Err(fields.refuse(key, &json!(found), wanted));
            }
        }
        Ok(config)
    }
}

/// Builds the function `name`: `pixel_values` `[batch, 3, size, size]` → `image_embeds`
/// `[batch, projection]`; f32.
///
/// # Errors
/// When the configuration's numbers do not fit each other.
///
/// # Source
/// transformers `CLIPVisionTransformer.forward` and `CLIPModel.get_image_features`.
pub fn build(name: &str, config: &VisionConfig, options: &Options) -> Result<Func, GraphError> {
    let mut layers = Layers::new(name, options.dtype);
    let size = Dim::from(config.size);
    let shape = vec![Dim::symbol("batch"), Dim::from(3), size.clone(), size];
    let pixels = layers.input("pixel_values", shape)?;
    let mut x = embed(&mut layers, pixels, config)?;
    x = layers.layer_norm("vision_model.pre_layrnorm", x, config.epsilon)?;
    let block = Block {
        width: config.width,
        hidden: config.hidden,
        heads: config.heads,
        activation: config.activation,
        epsilon: config.epsilon,
        causal: false,
    };
    for index in 0..config.layers {
        let path = format!("vision_model.encoder.layers.{index}");
        x = layer(&mut layers, &path, x, &block)?;
    }
    layers.at("vision_model");
    let first = layers.push(Slice::new(1, 0, 1), &[x])?;
    let batch = layers.shape(first)[0].clone();
    let pooled = layers.reshape(first, vec![batch, Dim::from(config.width)])?;
    let pooled = layers.layer_norm("vision_model.post_layernorm", pooled, config.epsilon)?;
    let embeds = layers.linear_without_bias("visual_projection", pooled, config.projection)?;
    layers.result("image_embeds", embeds)?;
    Ok(layers.finish())
}

/// A learnt token and the patches, each with the embedding of its position.
fn embed(layers: &mut Layers, pixels: Value, config: &VisionConfig) -> Result<Value, GraphError> {
    let path = "vision_model.embeddings";
    layers.at(path);
    let patch = config.patch;
    let name = format!("{path}.patch_embedding.weight");
    let weight = layers.weight(&name, [config.width, 3, patch, patch])?;
    let conv = Conv {
        strides: vec![patch; 2],
        pads_before: vec![0; 2],
        pads_after: vec![0; 2],
        dilations: vec![1; 2],
        groups: 1,
    };
    let patches = layers.push(conv, &[pixels, weight])?;
    let patches = layers.tokens(patches)?;
    let class = layers.weight(&format!("{path}.class_embedding"), [config.width])?;
    let batch = layers.shape(patches)[0].clone();
    let shape = vec![batch, Dim::from(1), Dim::from(config.width)];
    let class = layers.push(Broadcast { shape }, &[class])?;
    let tokens = layers.push(Concat { axis: 1 }, &[class, patches])?;
    let count = (config.size / patch).pow(2) + 1;
    let name = format!("{path}.position_embedding.weight");
    let positions = layers.weight(&name, [count, config.width])?;
    layers.add(tokens, positions)
}
