//! The text encoders of Stable Diffusion: transformers' `CLIPTextModel` and
//! `CLIPTextModelWithProjection`.
//!
//! Takes a configuration, gives the function `input_ids` → `last_hidden_state` and
//! `pooler_output`, or `text_embeds` where the pooled text is projected. It knows no tokenizer.

use compiler::graph::{Func, GraphError, Value};
use compiler::ops::{Argmax, Cast, Constant, Equal, Gather, GatherNd, Gelu, GeluForm, Slice};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use crate::models::Options;
use crate::models::layers::Layers;

mod config;
pub mod vision;

/// What the encoder looks like, with every default resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Most tokens of a text; pipelines pad every text to as many.
    pub tokens: usize,
    /// Features of a token.
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
    /// Which token stands for the whole text.
    pub end_of_text: EndOfText,
    /// Features of the projected text, if it is projected.
    pub projection: Option<usize>,
    /// Keys of the configuration that nothing reads.
    pub ignored: Vec<String>,
}

/// Which token stands for the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfText {
    /// The first one of the largest id.
    LargestId,
    /// The first one of this id; the first token where there is none.
    First(i64),
}

/// Builds the function `name`: `input_ids` i64 `[batch, tokens]`, of at most as many tokens as
/// there are positions → `last_hidden_state` `[batch, tokens, width]` (after the final
/// normalisation), `pooler_output` `[batch, width]` (its token at the end of the text), or with
/// projection `text_embeds` `[batch, projection]`; f32.
///
/// # Errors
/// When the configuration's numbers do not fit each other.
///
/// # Source
/// Spec 6.4; transformers `CLIPTextTransformer.forward`.
pub fn build(name: &str, config: &Config, options: &Options) -> Result<Func, GraphError> {
    let mut layers = Layers::new(name, options.dtype);
    let shape = vec![Dim::symbol("batch"), Dim::symbol("tokens")];
    let ids = layers.typed_input("input_ids", DType::I64, shape)?;
    let mut x = embed(&mut layers, ids, config)?;
    let mut hidden_states = vec![x];
    let block = Block {
        width: config.width,
        hidden: config.hidden,
        heads: config.heads,
        activation: config.activation,
        epsilon: config.epsilon,
        causal: true,
    };
    for index in 0..config.layers {
        let path = format!("text_model.encoder.layers.{index}");
        x = layer(&mut layers, &path, x, &block)?;
        hidden_states.push(x);
    }
    x = layers.layer_norm("text_model.final_layer_norm", x, config.epsilon)?;
    let pooled = pool(&mut layers, ids, x, config)?;
    layers.result("last_hidden_state", x)?;
    match config.projection {
        None => layers.result("pooler_output", pooled)?,
        Some(width) => {
            let projected = layers.linear_without_bias("text_projection", pooled, width)?;
            layers.result("text_embeds", projected)?;
        }
    }
    if options.hidden_states {
        for (index, state) in hidden_states.into_iter().enumerate() {
            layers.result(&format!("hidden_states.{index}"), state)?;
        }
    }
    Ok(layers.finish())
}

/// Token embeddings plus position embeddings.
fn embed(layers: &mut Layers, ids: Value, config: &Config) -> Result<Value, GraphError> {
    let path = "text_model.embeddings";
    layers.at(path);
    let table = format!("{path}.token_embedding.weight");
    let table = layers.weight(&table, [config.vocabulary, config.width])?;
    let positions = format!("{path}.position_embedding.weight");
    let positions = layers.weight(&positions, [config.tokens, config.width])?;
    let x = layers.push(Gather { axis: 0 }, &[table, ids])?;
    let first = Slice::new(0, 0, layers.shape(ids)[1].clone());
    let positions = layers.push(first, &[positions])?;
    layers.add(x, positions)
}

/// One layer of a transformer, of texts or of pictures.
struct Block {
    width: usize,
    hidden: usize,
    heads: usize,
    activation: GeluForm,
    epsilon: f64,
    /// Whether a token sees those before it only.
    causal: bool,
}

fn layer(layers: &mut Layers, path: &str, x: Value, block: &Block) -> Result<Value, GraphError> {
    let at = |part: &str| format!("{path}.{part}");
    let h = layers.layer_norm(&at("layer_norm1"), x, block.epsilon)?;
    let q = layers.linear(&at("self_attn.q_proj"), h, block.width)?;
    let k = layers.linear(&at("self_attn.k_proj"), h, block.width)?;
    let v = layers.linear(&at("self_attn.v_proj"), h, block.width)?;
    layers.at(&at("self_attn"));
    let h = layers.attention([q, k, v], block.heads, block.causal)?;
    let h = layers.linear(&at("self_attn.out_proj"), h, block.width)?;
    let x = layers.add(x, h)?;
    let h = layers.layer_norm(&at("layer_norm2"), x, block.epsilon)?;
    let h = layers.linear(&at("mlp.fc1"), h, block.hidden)?;
    let form = block.activation;
    let h = layers.push(Gelu { form }, &[h])?;
    let h = layers.linear(&at("mlp.fc2"), h, block.width)?;
    layers.add(x, h)
}

/// The features of the token that ends each text: `[batch, width]`.
fn pool(layers: &mut Layers, ids: Value, x: Value, config: &Config) -> Result<Value, GraphError> {
    layers.at("text_model");
    let scores = match config.end_of_text {
        EndOfText::LargestId => ids,
        EndOfText::First(id) => {
            let tensor = Tensor::from_i64(&[], &[id]);
            let id = layers.push(Constant { tensor }, &[])?;
            let ends = layers.push(Equal, &[ids, id])?;
            layers.push(Cast { dtype: DType::I64 }, &[ends])?
        }
    };
    let first = Argmax {
        axis: 1,
        last: false,
    };
    let position = layers.push(first, &[scores])?;
    let mut column = layers.shape(position);
    column.push(Dim::from(1));
    let position = layers.reshape(position, column)?;
    layers.push(GatherNd { batch_axes: 1 }, &[x, position])
}

/// The name of a checkpoint's tensor with the prefix that this model's weights have;
/// transformers 5 leaves it out.
pub fn modernise(name: &str) -> String {
    let bare = ["embeddings.", "encoder.", "final_layer_norm."];
    match bare.iter().any(|start| name.starts_with(start)) {
        true => format!("text_model.{name}"),
        false => name.to_owned(),
    }
}

/// Whether a tensor of a checkpoint is known not to be a weight of the text encoder: the list of
/// positions, which is 0, 1, 2, …, and a projection where the model has none.
pub fn is_spare(name: &str) -> bool {
    [
        "text_model.embeddings.position_ids",
        "text_projection.weight",
    ]
    .contains(&name)
}
