//! The weights of a model: safetensors files, in shards and variants.
//!
//! Takes a folder of a [`Source`], gives tensors by name that share the files' bytes; then fits
//! them to the weight parameters of a function. It never computes on a tensor but to convert its
//! element type, and reads no format that can run code.

use std::collections::BTreeMap;

use compiler::graph::TensorType;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use thiserror::Error;

use crate::source::{Source, SourceError, join};

mod fit;
mod safetensors;

pub use fit::fit;
pub use safetensors::parse;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Why there are no weights.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CheckpointError {
    /// A file of the checkpoint cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file is not what its name says.
    #[error("{file:?} is not valid: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor has an element type that no operator takes.
    #[error(
        "tensor {tensor:?} in {file:?} has the element type {found:?}, wanted one of {}",
        safetensors::dtype_names()
    )]
    ElementType {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its element type as the file spells it.
        found: String,
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
            CheckpointError::ShardMissing { shard, .. } => {
                Some(format!("download {shard:?} again"))
            }
            CheckpointError::Source(_)
            | CheckpointError::Format { .. }
            | CheckpointError::Offsets { .. }
            | CheckpointError::NoWeights { .. }
            | CheckpointError::ShardTensor { .. }
            | CheckpointError::ShardTwice { .. }
            | CheckpointError::Type { .. } => None,
        }
    }
}

fn list(tensors: &[String], count: usize) -> String {
    let more = if count > tensors.len() { ", …" } else { "" };
    format!("{}{more}", tensors.join(", "))
}

/// Reads the weights of one component.
///
/// `folder` is the component's (empty for the source's own) and `stem` the name that its library
/// gives to weights: `diffusion_pytorch_model` or `model`. Weights without variant are taken
/// first, one variant (`<stem>.fp16.safetensors`) when it is alone; both may be in shards with
/// an index.
///
/// # Errors
/// When there are no weights, only pickled ones, or a file is not valid.
pub fn load(source: &dyn Source, folder: &str, stem: &str) -> Result<Tensors, CheckpointError> {
    let file = find(source, folder, stem)?;
    let path = join(folder, &file)?;
    match file.ends_with(".json") {
        true => load_shards(source, folder, &path),
        false => parse(&path, &source.read(&path)?),
    }
}

/// The name of the file in `folder` from which loading begins.
fn find(source: &dyn Source, folder: &str, stem: &str) -> Result<String, CheckpointError> {
    let paths = source.list()?;
    let prefix = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let names: Vec<&str> = paths
        .iter()
        .filter_map(|path| path.strip_prefix(&prefix))
        .filter(|name| !name.contains('/'))
        .collect();
    let plain = [
        format!("{stem}.safetensors"),
        format!("{stem}.safetensors.index.json"),
    ];
    if let Some(file) = plain.into_iter().find(|f| names.contains(&f.as_str())) {
        return Ok(file);
    }
    let mut variants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &names {
        if let Some(variant) = variant(name, stem) {
            variants.entry(variant).or_default().push(name);
        }
    }
    let files = || variants.values().flatten().map(|&name| name.to_owned());
    match (variants.len(), files().next()) {
        (1, Some(file)) => return Ok(file),
        (0, _) | (_, None) => {}
        (_, Some(_)) => {
            return Err(CheckpointError::Variants {
                folder: folder.to_owned(),
                found: files().collect(),
            });
        }
    }
    let pickled = |name: &&&str| {
        let extension = name.rsplit('.').next();
        matches!(extension, Some("bin" | "ckpt" | "pt" | "pth"))
    };
    let folder = folder.to_owned();
    Err(match names.iter().find(pickled) {
        Some(&found) => CheckpointError::Pickle {
            folder,
            found: found.to_owned(),
        },
        None => CheckpointError::NoWeights {
            folder,
            stem: stem.to_owned(),
        },
    })
}

/// The variant that a file holds or indexes: `fp16` of `model.fp16.safetensors`, of
/// `model.safetensors.index.fp16.json` and of `model.fp16.safetensors.index.json`. The parts of
/// an index are not variants of their own.
fn variant<'a>(name: &'a str, stem: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
    let variant = rest
        .strip_prefix("safetensors.index.")
        .and_then(|rest| rest.strip_suffix(".json"))
        .or_else(|| rest.strip_suffix(".safetensors.index.json"))
        .or_else(|| rest.strip_suffix(".safetensors"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!variant.is_empty() && variant.chars().all(plain)).then_some(variant)
}

/// Reads the shards that the index at `path` names.
fn load_shards(source: &dyn Source, folder: &str, path: &str) -> Result<Tensors, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = source.read(path)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Format {
        file: path.to_owned(),
        reason: error.to_string(),
    })?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in &index.weight_map {
        shards.entry(shard).or_default().push(tensor);
    }
    let mut tensors = Tensors::new();
    for (shard, names) in shards {
        let file = join(folder, shard)?;
        let bytes = match source.read(&file) {
            Err(SourceError::NotFound { .. }) => {
                return Err(CheckpointError::ShardMissing {
                    index: path.to_owned(),
                    shard: shard.to_owned(),
                    tensor: names[0].to_owned(),
                });
            }
            read => read?,
        };
        let held = parse(&file, &bytes)?;
        let place = |tensor: &str| (path.to_owned(), shard.to_owned(), tensor.to_owned());
        if let Some(name) = names.iter().find(|&&name| !held.contains_key(name)) {
            let (index, shard, tensor) = place(name);
            return Err(CheckpointError::ShardTensor {
                index,
                shard,
                tensor,
            });
        }
        for (name, tensor) in held {
            if tensors.contains_key(&name) {
                let (index, shard, tensor) = place(&name);
                return Err(CheckpointError::ShardTwice {
                    index,
                    shard,
                    tensor,
                });
            }
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// Whether values of `found` may become a parameter of `wanted`: floats of every width may,
/// anything else must be of the very type.
fn convertible(found: DType, wanted: DType) -> bool {
    found == wanted || found.is_float() && wanted.is_float()
}
