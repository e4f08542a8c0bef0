//! Why data cannot be trained on: faults of one sample, and faults that end a run.
//!
//! Plain data with its messages.

use compiler::program::pipeline::PipelineError;
use thiserror::Error;

use crate::pictures::PictureError;
use crate::pipeline::SamplingError;
use crate::session::SessionError;
use crate::tensor_file::TensorFileError;
use crate::tokenizer::TokenizerError;

/// Skipped samples that a message names.
const NAMED_MAX: usize = 10;

/// Why one sample cannot be used.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// A file of it is missing or cannot be read.
    #[error("cannot read {file:?}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// Its picture is none.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// It has no caption.
    #[error("it has no caption")]
    NoCaption,
    /// Its caption file holds none.
    #[error("{file:?} holds no caption: {reason}")]
    Caption {
        /// The file, or the member of a shard.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Its tensors are missing or of other shapes.
    #[error("shard {file:?}: {reason}")]
    Encoded {
        /// The shard.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// A sample that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name: that of its picture, in a shard after the shard's.
    pub name: String,
    /// Why, in words.
    pub reason: String,
}

/// Why a run cannot go on with its data.
#[derive(Debug, Error)]
pub enum DataError {
    /// The files cannot be listed.
    #[error("the files cannot be listed: {reason}")]
    List {
        /// What the system says.
        reason: String,
    },
    /// A file that the whole data set depends on cannot be read.
    #[error("cannot read {file:?}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// There are no samples.
    #[error(
        "found no sample (and {files} files in all); expected pictures (.jpg, .jpeg, .png, .webp), \
         .tar shards, or what `splamc encode` writes"
    )]
    Empty {
        /// Files that were listed.
        files: usize,
    },
    /// No sample has a caption.
    #[error(
        "no picture has a caption (found {samples})\nhint: write each caption to a .txt file of \
         the picture's name, or all to metadata.jsonl or metadata.csv with the columns file_name \
         and text"
    )]
    NoCaptions {
        /// Pictures that were found.
        samples: usize,
    },
    /// A file of captions is damaged.
    #[error("{file:?}, line {line}: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A shard is damaged.
    #[error("{file:?} is not a whole tar file: {reason}\nhint: download or write it again")]
    Shard {
        /// The shard.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// There are more samples than this version counts.
    #[error("found more than {max} samples")]
    TooMany {
        /// The most samples.
        max: usize,
    },
    /// More samples cannot be used than a good data set has.
    #[error(
        "{} of {samples} samples cannot be used, expected at most {limit}: {}\n\
         hint: repair them, or leave them out of the data",
        .skipped.len(), named(.skipped)
    )]
    TooManySkipped {
        /// The samples that cannot be used.
        skipped: Vec<Skipped>,
        /// All samples.
        samples: usize,
        /// The most that are skipped.
        limit: usize,
    },
    /// A setting is out of its range.
    #[error("{name} is {found}; expected {wanted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// Encoded data are damaged, incomplete, or of another model.
    #[error("{file:?}: {reason}")]
    Encoded {
        /// The file.
        file: String,
        /// What was found, what was expected, and what to do.
        reason: String,
    },
    /// A token that the text encoder does not have.
    #[error(
        "found the token {token} in {caption:?}, but the vocabulary of {component} has \
         {vocabulary}\nhint: the tokenizer and the text encoder may belong to different models"
    )]
    Token {
        /// The token.
        token: i64,
        /// The text.
        caption: String,
        /// The text encoder.
        component: String,
        /// Entries of its vocabulary.
        vocabulary: usize,
    },
    /// The tokenizer refuses a caption.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The pipeline lacks a network.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A network cannot be loaded.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A network fails.
    #[error("{what:?}: {source}")]
    Network {
        /// The sample or the caption that it was given.
        what: String,
        /// What is wrong.
        source: SamplingError,
    },
    /// Tensors cannot be stored.
    #[error(transparent)]
    Store(#[from] TensorFileError),
    /// The thread that reads ahead cannot be started.
    #[error("the thread that reads data cannot be started: {reason}")]
    Thread {
        /// What the system says.
        reason: String,
    },
    /// The thread that reads ahead has ended, after an error that was returned before or a panic.
    #[error("the thread that reads data has ended")]
    Ended,
}

/// What went wrong with one sample: it is skipped, or the run ends.
pub(super) enum Fault {
    /// It is skipped.
    Unreadable(Unreadable),
    /// The run ends.
    Fatal(DataError),
}

impl<E: Into<Unreadable>> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Unreadable(error.into())
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Fault {
        Fault::Fatal(error)
    }
}

/// The samples and why; of many only the first.
fn named(skipped: &[Skipped]) -> String {
    let shown = skipped.iter().take(NAMED_MAX);
    let mut samples: Vec<String> = shown
        .map(|Skipped { name, reason }| format!("{name} ({reason})"))
        .collect();
    match skipped.len() - samples.len() {
        0 => {}
        more => samples.push(format!("and {more} more")),
    }
    samples.join(", ")
}
