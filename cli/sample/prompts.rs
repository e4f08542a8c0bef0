//! Prompts as token ids, one row per picture.
//!
//! Takes the texts of `-p` and `-n`, returns `[batch, tokens]`; warns where a text is cut.

use compiler::program::pipeline::TextEncoder;
use compiler::value::tensor::Tensor;
use runtime::tokenizer::Tokenizer;

use crate::error::{At, Failure};
use crate::model::Model;
use crate::progress;

use super::arguments::Arguments;

/// The tokenizer of a text encoder, and the entries of the encoder's vocabulary. Warns where the
/// encoder has more of them than the tokenizer.
fn tokenizer(model: &Model, encoder: &TextEncoder) -> Result<(Tokenizer, usize), Failure> {
    let (folder, name) = (&encoder.tokenizer, &encoder.component);
    let tokenizer = model.tokenizer(folder)?;
    let found = tokenizer.vocabulary();
    let wanted = encoder.vocabulary.unwrap_or(found);
    if found < wanted {
        let place = model.place();
        progress::warn(format!(
            "{place}: {folder} has {found} tokens, but the vocabulary of {name} has {wanted}: \
             tokens may be missing, such as those of added_tokens.json"
        ));
    }
    Ok((tokenizer, wanted))
}

/// Prompts as token ids.
pub(crate) struct Prompts {
    /// One for each text encoder of the pipeline, and the entries of that encoder's vocabulary.
    tokenizers: Vec<(Tokenizer, usize)>,
    batch: usize,
}

impl Prompts {
    pub(crate) fn new(
        arguments: &Arguments,
        model: &Model,
        batch: usize,
    ) -> Result<Prompts, Failure> {
        for (option, texts) in [("-p", &arguments.prompt), ("-n", &arguments.negative)] {
            if texts.len() > 1 && texts.len() != batch {
                let found = texts.len();
                let message =
                    format!("{option} was given {found} times; expected once or {batch} times");
                return Err(
                    Failure::usage(message).hint("pass one prompt per picture, or one for all")
                );
            }
        }
        let encoders = model.pipeline().prompts.encoders.iter();
        let tokenizers = encoders.map(|encoder| tokenizer(model, encoder));
        Ok(Prompts {
            tokenizers: tokenizers.collect::<Result<_, Failure>>()?,
            batch,
        })
    }

    /// `[batch, tokens]` for the text encoder of this number; no text stands for the empty one.
    pub(crate) fn ids(&self, number: usize, texts: &[String]) -> Result<Tensor, Failure> {
        let (tokenizer, vocabulary) = &self.tokenizers[number];
        let mut ids = Vec::new();
        for picture in 0..self.batch {
            let text = texts.get(if texts.len() > 1 { picture } else { 0 });
            let text = text.map_or("", String::as_str);
            let encoded = tokenizer.encode(text).at("tokenizer")?;
            if let Some(id) = encoded.ids.iter().find(|id| **id >= *vocabulary as i64) {
                return Err(Failure::job(format!(
                    "tokenizer: found the token {id} in {text:?}, but the vocabulary of the text \
                     encoder has {vocabulary}"
                ))
                .hint("the tokenizer and the text encoder may belong to different models"));
            }
            let repeated = texts.len() == 1 && picture > 0 || number > 0;
            if encoded.truncated && !repeated {
                let (found, wanted) = (encoded.token_count, tokenizer.max_length());
                progress::warn(format!(
                    "the prompt has {found} tokens and is cut to {wanted}: {text:?}"
                ));
            }
            ids.extend(encoded.ids);
        }
        Ok(Tensor::from_i64(
            &[self.batch, ids.len() / self.batch],
            &ids,
        ))
    }
}
