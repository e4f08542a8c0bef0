//! Why there are no weights.

use compiler::graph::TensorType;
use compiler::value::stored::ReadError;
use thiserror::Error;

use crate::source::SourceError;

/// Why there are no weights.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CheckpointError {
    /// A file of the checkpoint cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file was cut or changed before its tensors were read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file is not what its name says.
    #[error("{file:?} is not valid: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file ends before its header says so, as after a download that was cut.
    #[error("{file:?} is incomplete: it has {found} bytes, expected at least {wanted}")]
    Incomplete {
        /// The file.
        file: String,
        /// Its size in bytes.
        found: usize,
        /// The size in bytes that its header tells.
        wanted: usize,
    },
    /// A tensor has an element type that no operator takes.
    #[error("tensor {tensor:?} in {file:?} has the element type {found:?}, wanted one of {wanted}")]
    ElementType {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type as the file spells it.
        found: String,
        /// Those that files may have.
        wanted: String,
    },
    /// A tensor lies where it cannot.
    #[error("tensor {tensor:?} in {file:?} lies at bytes {found:?}, wanted {wanted}")]
    Offsets {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Begin and end in the file's data.
        found: (usize, usize),
        /// Where it should lie.
        wanted: String,
    },
    /// No file holds weights.
    #[error("found no weights in {folder:?}, wanted \"{stem}.safetensors\" or its shards")]
    NoWeights {
        /// The component's folder.
        folder: String,
        /// The name that weights have there.
        stem: String,
    },
    /// The weights are there in a format that can run code only.
    #[error("found weights in {folder:?} as {found:?} only, wanted safetensors")]
    Pickle {
        /// The component's folder.
        folder: String,
        /// The file.
        found: String,
    },
    /// Several variants, and nothing says which is meant.
    #[error(
        "found the variants {found:?} in {folder:?}, wanted one or the weights without variant"
    )]
    Variants {
        /// The component's folder.
        folder: String,
        /// The files.
        found: Vec<String>,
    },
    /// A shard that the index names is not there.
    #[error("{index:?} names the shard {shard:?} that holds {tensor:?}, found no such file")]
    ShardMissing {
        /// The index.
        index: String,
        /// The shard.
        shard: String,
        /// A tensor that it holds.
        tensor: String,
    },
    /// A shard does not hold what the index says.
    #[error("{index:?} places the tensor {tensor:?} in {shard:?}, found it not there")]
    ShardTensor {
        /// The index.
        index: String,
        /// The shard.
        shard: String,
        /// The tensor.
        tensor: String,
    },
    /// Two shards hold a tensor of one name.
    #[error("tensor {tensor:?} is in {shard:?} and in another shard of {index:?}")]
    ShardTwice {
        /// The index.
        index: String,
        /// The later shard.
        shard: String,
        /// The tensor.
        tensor: String,
    },
    /// Weights that the model needs are not in its checkpoint.
    #[error("{model} lacks {count} tensors, the first is {tensor:?}, wanted as {wanted}")]
    Missing {
        /// The function.
        model: String,
        /// How many are missing.
        count: usize,
        /// The first by name.
        tensor: String,
        /// Its type.
        wanted: TensorType,
    },
    /// The checkpoint holds tensors for which the model has no use.
    #[error("{model} has no place for {count} tensors, found {}", list(.tensors, *.count))]
    Extra {
        /// The function.
        model: String,
        /// How many there are.
        count: usize,
        /// The first few by name.
        tensors: Vec<String>,
    },
    /// A tensor has another shape, or is not of numbers of that kind.
    #[error("tensor {tensor:?} of {model} is {found}, wanted {wanted}")]
    Type {
        /// The function.
        model: String,
        /// The tensor.
        tensor: String,
        /// Its type in the checkpoint.
        found: TensorType,
        /// The type of the parameter.
        wanted: TensorType,
    },
}

impl CheckpointError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            CheckpointError::Pickle { folder, .. } => Some(format!(
                "convert the model in Python: DiffusionPipeline.from_pretrained(MODEL, \
                 use_safetensors=False).save_pretrained(OUT) of diffusers writes {folder:?} as \
                 safetensors; do it only with files whose author you trust"
            )),
            CheckpointError::Variants { .. } => {
                Some("keep the variant that you mean, or the files without variant".to_owned())
            }
            CheckpointError::ElementType { .. } => {
                Some("convert the weights to f16, bf16 or f32 first".to_owned())
            }
            CheckpointError::Missing { .. } | CheckpointError::Extra { .. } => {
                Some("the weights and config.json may belong to different models".to_owned())
            }
            CheckpointError::ShardMissing { shard: file, .. }
            | CheckpointError::Incomplete { file, .. } => Some(format!("download {file:?} again")),
            CheckpointError::Source(_)
            | CheckpointError::Read(_)
            | CheckpointError::Format { .. }
            | CheckpointError::Offsets { .. }
            | CheckpointError::NoWeights { .. }
            | CheckpointError::ShardTensor { .. }
            | CheckpointError::ShardTwice { .. }
            | CheckpointError::Type { .. } => None,
        }
    }
}

pub(super) fn list(tensors: &[String], count: usize) -> String {
    let more = if count > tensors.len() { ", …" } else { "" };
    format!("{}{more}", tensors.join(", "))
}
