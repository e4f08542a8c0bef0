//! Reads the configuration of a CLIP text encoder as transformers 4 and 5 write it.
//!
//! Takes the text of `config.json`, gives a [`Config`]. Every key is used, known not to matter,
//! refused by name, or listed as ignored.

use compiler::ops::GeluForm;
use serde_json::{Value, json};

use crate::models::clip::{Config, EndOfText};
use crate::models::fields::{ConfigError, Fields};

/// Most layers; keeps a hostile file from building forever.
pub(super) const LAYERS_MAX: usize = 256;
/// Most features of anything, most tokens and most entries of the vocabulary.
pub(super) const WIDTH_MAX: usize = 1 << 20;
/// Before transformers 4.31 configurations said that this id ends a text, wrongly: the models
/// were trained with the last one of the vocabulary.
const LEGACY_EOS: i64 = 2;
/// The end of a text where the configuration names none.
const EOS: i64 = 49407;

/// Keys that do not change the function: of training, of generation, and what transformers
/// writes into every configuration. `pad_token_id` and `bos_token_id` are the tokenizer's.
pub(super) const IRRELEVANT: [&str; 57] = [
    "add_cross_attention",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Activations by transformers' names.
pub(super) const ACTIVATIONS: [(&str, GeluForm); 4] = [
    ("quick_gelu", GeluForm::Quick),
    ("gelu", GeluForm::Erf),
    ("gelu_new", GeluForm::Tanh),
    ("gelu_pytorch_tanh", GeluForm::Tanh),
];

impl Config {
    /// The configuration in `text`, the contents of `file`. `projected` says whether the model
    /// projects the pooled text, where something else than this file says so; otherwise the
    /// file's `architectures` tell, and without them it does not.
    ///
    /// # Errors
    /// When a key asks for a variant that is not built, naming it.
    ///
    /// # Source
    /// transformers `CLIPTextConfig`: its keys and their defaults.
    pub fn parse(file: &str, text: &[u8], projected: Option<bool>) -> Result<Config, ConfigError> {
        let mut fields = Fields::parse(file, text)?;
        let projected = match projected {
            Some(projected) => {
                fields.irrelevant(&["architectures"]);
                projected
            }
            None => {
                let classes = [
                    ("CLIPTextModel", false),
                    ("CLIPTextModelWithProjection", true),
                ];
                fields.names("architectures", &["CLIPTextModel"], &classes, 1)?[0]
            }
        };
        fields.only("model_type", json!("clip_text_model"))?;
        fields.only("is_decoder", json!(false))?;
        fields.only("pruned_heads", json!({}))?;
        fields.irrelevant(&IRRELEVANT);
        let projection = fields.count("projection_dim", 512, WIDTH_MAX)?;
        let mut config = Config {
            vocabulary: fields.count("vocab_size", 49408, WIDTH_MAX)?,
            tokens: fields.count("max_position_embeddings", 77, WIDTH_MAX)?,
            width: fields.count("hidden_size", 512, WIDTH_MAX)?,
            hidden: fields.count("intermediate_size", 2048, WIDTH_MAX)?,
            layers: fields.count("num_hidden_layers", 12, LAYERS_MAX)?,
            heads: fields.count("num_attention_heads", 8, WIDTH_MAX)?,
            activation: fields.name("hidden_act", "quick_gelu", &ACTIVATIONS)?,
            epsilon: fields.number("layer_norm_eps", 1e-5)?,
            end_of_text: end_of_text(&mut fields)?,
            projection: projected.then_some(projection),
            ignored: Vec::new(),
        };
        if !config.width.is_multiple_of(config.heads) {
            let wanted = format!("a divisor of hidden_size {}", config.width);
            return Err(fields.refuse("num_attention_heads", &json!(config.heads), wanted));
        }
        config.ignored = fields.finish();
        Ok(config)
    }
}

fn end_of_text(fields: &mut Fields) -> Result<EndOfText, ConfigError> {
    let key = "eos_token_id";
    let value = fields.take(key).unwrap_or(Value::from(EOS));
    match value.as_i64() {
        Some(LEGACY_EOS) => Ok(EndOfText::LargestId),
        Some(id) => Ok(EndOfText::First(id)),
        None => Err(fields.refuse(key, &value, "one id")),
    }
}
