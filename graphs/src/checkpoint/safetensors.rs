//! One safetensors file: a header of JSON, then the tensors' bytes without gaps.
//!
//! Takes the bytes of the file, gives tensors that share them. Every claim of the header is
//! checked before it is used: length, element type, shape, and that the tensors cover the data
//! exactly once.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::dtype::DType;
use compiler::tensor::Tensor;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::checkpoint::{CheckpointError, Tensors};

/// The longest header that is read, in bytes: the limit of the format's own library.
const HEADER_MAX: usize = 100_000_000;

/// Bytes of the header's length at the start of the file.
const LENGTH_BYTES: usize = 8;

/// The element types that are read, as files spell them.
const DTYPES: [(&str, DType); 9] = [
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("I32", DType::I32),
    ("I64", DType::I64),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("F32", DType::F32),
    ("F64", DType::F64),
];

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The tensors of the file `name`, sharing its bytes.
///
/// # Errors
/// When the header is not valid, an element type is not known, or the tensors do not cover the
/// data exactly once.
///
/// # Source
/// The format: github.com/huggingface/safetensors, README "Format".
pub fn parse(name: &str, file: &Bytes) -> Result<Tensors, CheckpointError> {
    let (header, data) = split(name, file)?;
    let mut entries: Vec<(&String, &Entry)> = header.entries.iter().collect();
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut tensors = Tensors::new();
    let mut begin = 0;
    for (tensor, entry) in entries {
        let dtype = dtype(&entry.dtype).ok_or_else(|| CheckpointError::ElementType {
            file: name.to_owned(),
            tensor: tensor.clone(),
            found: entry.dtype.clone(),
        })?;
        let misplaced = |wanted: String| CheckpointError::Offsets {
            file: name.to_owned(),
            tensor: tensor.clone(),
            found: entry.data_offsets,
            wanted,
        };
        let (first, end) = entry.data_offsets;
        if first != begin {
            return Err(misplaced(format!(
                "a begin at {begin}, without gap or overlap"
            )));
        }
        if end < first || end > data.len() {
            return Err(misplaced(format!(
                "an end between {first} and {}",
                data.len()
            )));
        }
        let made = Tensor::new(dtype, entry.shape.clone(), data.slice(first..end));
        let made = made.map_err(|error| misplaced(error.to_string()))?;
        tensors.insert(tensor.clone(), made);
        begin = end;
    }
    match begin == data.len() {
        true => Ok(tensors),
        false => Err(CheckpointError::Format {
            file: name.to_owned(),
            reason: format!("found {} bytes of data, wanted {begin}", data.len()),
        }),
    }
}

/// The parsed header and the data behind it.
fn split(name: &str, file: &Bytes) -> Result<(Header, Bytes), CheckpointError> {
    let invalid = |reason: String| CheckpointError::Format {
        file: name.to_owned(),
        reason,
    };
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        let reason = format!("found {} bytes, wanted at least {LENGTH_BYTES}", file.len());
        return Err(invalid(reason));
    };
    let length = u64::from_le_bytes(*length);
    let most = rest.len().min(HEADER_MAX);
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= most)
        .ok_or_else(|| {
            invalid(format!(
                "found a header of {length} bytes, wanted at most {most}"
            ))
        })?;
    let header = serde_json::from_slice(&rest[..length])
        .map_err(|error| invalid(format!("its header: {error}")))?;
    Ok((header, file.slice(LENGTH_BYTES + length..)))
}

fn dtype(name: &str) -> Option<DType> {
    let found = DTYPES.iter().find(|(spelling, _)| *spelling == name);
    found.map(|(_, dtype)| *dtype)
}

/// The spellings of [`DTYPES`], for messages.
pub(super) fn dtype_names() -> String {
    DTYPES.map(|(name, _)| name).join(", ")
}
