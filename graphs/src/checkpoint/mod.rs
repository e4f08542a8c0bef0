//! The weights of a model: safetensors files, in shards and variants.
//!
//! Takes a folder of a [`Source`], gives tensors by name that share the files' bytes; then fits
//! them to the weight parameters of a function. It never computes on a tensor but to convert its
//! element type, and reads no format that can run code.

use std::collections::BTreeMap;

use crate::source::{Source, SourceError, join};

mod error;
mod fit;
mod safetensors;

pub use error::CheckpointError;
pub use fit::fit;
pub use safetensors::{Tensors, metadata, parse};

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
