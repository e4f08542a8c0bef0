//! What is wrong with a tokenizer.
//!
//! Plain data with its messages.

use thiserror::Error;

/// Why bytes are not a tokenizer, or a prompt cannot be encoded.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// There is no vocabulary.
    #[error("found neither vocab.json and merges.txt nor tokenizer.json in the tokenizer")]
    NoVocabulary,
    /// A file is not JSON, or not of the form that it should have.
    #[error("{file} of the tokenizer is not in its form: {source}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// What the JSON reader says, with line and column.
        source: serde_json::Error,
    },
    /// `merges.txt` is not text.
    #[error("merges.txt of the tokenizer is not UTF-8")]
    MergesNotText,
    /// A merge is not a pair.
    #[error("merge {number} of the tokenizer is not two tokens parted by one space")]
    Merge {
        /// Counted from 1, the version line not counted.
        number: usize,
    },
    /// The configuration is of another kind of tokenizer.
    #[error("found a tokenizer of class {found:?}, wanted CLIPTokenizer")]
    Class {
        /// What `tokenizer_class` says.
        found: String,
    },
    /// A special token is not in the vocabulary.
    #[error("the {role} token {content:?} is not in the tokenizer's vocabulary")]
    SpecialToken {
        /// `start`, `end` or `padding`.
        role: &'static str,
        /// The token's text.
        content: String,
    },
    /// An added token does not follow the vocabulary.
    #[error("the added token {content:?} has the id {wanted}, but its place is {found}")]
    AddedId {
        /// The token's text.
        content: String,
        /// The id that the file gives it.
        wanted: u32,
        /// The next id after the vocabulary and the tokens before it.
        found: u32,
    },
    /// The length leaves no room for the start and end tokens, or is absurd.
    #[error("found model_max_length {found} in tokenizer_config.json, wanted 2 to {max}")]
    Length {
        /// What the file says.
        found: f64,
        /// The greatest length accepted.
        max: usize,
    },
    /// The tokenizer's own library refuses.
    #[error("the tokenizer refuses: {reason}")]
    Refused {
        /// The library's words.
        reason: String,
    },
}
