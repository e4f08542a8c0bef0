//! The transformer over an image's tokens with cross-attention to a text, as UNets have it.
//!
//! Takes an image and text embeddings, gives an image. Paths are diffusers' `Transformer2DModel`.

use compiler::graph::{GraphError, Value};
use compiler::ops::Geglu;

use crate::models::layers::{Layers, Window};

/// Epsilon of the normalisation before the tokens (spec 6.2).
const IMAGE_EPSILON: f64 = 1e-6;

/// Epsilon of the normalisations of tokens (spec 6.2).
const TOKEN_EPSILON: f64 = 1e-5;

/// Hidden features of the feed-forward network per feature of the tokens.
const EXPANSION: usize = 4;

/// Transformers of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Channels.
    pub channels: usize,
    /// Heads, which divide the channels.
    pub heads: usize,
    /// Groups of the normalisation.
    pub groups: usize,
    /// Whether the projections are linear layers and not 1×1 convolutions.
    pub linear_projection: bool,
    /// Whether the first attention of a block attends to the text as well.
    pub only_cross: bool,
}

/// `x` plus what `depth` blocks of self-attention, cross-attention to `text`
/// `[batch, tokens, text_width]` and feed-forward network make of it.
///
/// # Source
/// Spec 6.2; diffusers `Transformer2DModel`, `BasicTransformerBlock`.
pub(crate) fn transformer(
    layers: &mut Layers,
    path: &str,
    x: Value,
    text: Value,
    depth: usize,
    attention: &Attention,
) -> Result<Value, GraphError> {
    let channels = attention.channels;
    let proj = |end: &str| format!("{path}.proj_{end}");
    let norm = format!("{path}.norm");
    let mut h = layers.group_norm(&norm, x, attention.groups, IMAGE_EPSILON)?;
    // A 1×1 convolution and a linear layer do the same; the weights' shapes differ.
    let linear = attention.linear_projection;
    if !linear {
        h = layers.conv(&proj("in"), h, channels, Window::same(1))?;
    }
    h = layers.tokens(h)?;
    if linear {
        h = layers.linear(&proj("in"), h, channels)?;
    }
    for index in 0..depth {
        let path = format!("{path}.transformer_blocks.{index}");
        h = block(layers, &path, h, text, attention)?;
    }
    if linear {
        h = layers.linear(&proj("out"), h, channels)?;
    }
    h = layers.image(h, x)?;
    if !linear {
        h = layers.conv(&proj("out"), h, channels, Window::same(1))?;
    }
    layers.at(path);
    layers.add(h, x)
}

fn block(
    layers: &mut Layers,
    path: &str,
    x: Value,
    text: Value,
    attention: &Attention,
) -> Result<Value, GraphError> {
    let at = |part: &str| format!("{path}.{part}");
    let h = layers.layer_norm(&at("norm1"), x, TOKEN_EPSILON)?;
    let context = if attention.only_cross { text } else { h };
    let h = attend(layers, &at("attn1"), h, context, attention)?;
    let x = layers.add(h, x)?;
    let h = layers.layer_norm(&at("norm2"), x, TOKEN_EPSILON)?;
    let h = attend(layers, &at("attn2"), h, text, attention)?;
    let x = layers.add(h, x)?;
    let h = layers.layer_norm(&at("norm3"), x, TOKEN_EPSILON)?;
    let hidden = EXPANSION * attention.channels;
    let h = layers.linear(&at("ff.net.0.proj"), h, 2 * hidden)?;
    let h = layers.push(Geglu, &[h])?;
    let h = layers.linear(&at("ff.net.2"), h, attention.channels)?;
    layers.add(h, x)
}

/// Attention of `x` to `context`, with projections; only the last has a bias.
fn attend(
    layers: &mut Layers,
    path: &str,
    x: Value,
    context: Value,
    attention: &Attention,
) -> Result<Value, GraphError> {
    let at = |part: &str| format!("{path}.{part}");
    let width = attention.channels;
    let q = layers.linear_without_bias(&at("to_q"), x, width)?;
    let k = layers.linear_without_bias(&at("to_k"), context, width)?;
    let v = layers.linear_without_bias(&at("to_v"), context, width)?;
    layers.at(path);
    let x = layers.attention([q, k, v], attention.heads, false)?;
    layers.linear(&at("to_out.0"), x, width)
}
