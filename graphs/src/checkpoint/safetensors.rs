//! One safetensors file: a header of JSON, then the tensors' bytes without gaps.
//!
//! Takes the bytes of the file, gives tensors that share them. Every claim of the header is
//! checked before it is used: length, element type, shape, and that the tensors cover the data
//! exactly once.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use serde::Deserialize;
use serde_json::Value;

use super::error::CheckpointError;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

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
    metadata: Option<Value>,
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
    let header_bytes = file.len() - data.len();
    let mut entries: Vec<(&String, &Entry)> = header.entries.iter().collect();
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut placed = Vec::with_capacity(entries.len());
    let mut begin = 0;
    for (tensor, entry) in entries {
        let dtype = dtype(&entry.dtype).ok_or_else(|| CheckpointError::ElementType {
            file: name.to_owned(),
            tensor: tensor.clone(),
            found: entry.dtype.clone(),
            wanted: dtype_names(),
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
        let mut extents = entry.shape.iter();
        let size = extents.try_fold(dtype.bytes(), |size, &n| size.checked_mul(n));
        let size = size.ok_or_else(|| misplaced("a size within the address space".to_owned()))?;
        if first.checked_add(size) != Some(end) {
            let shape = &entry.shape;
            return Err(misplaced(format!(
                "{size} bytes for {dtype} of shape {shape:?}"
            )));
        }
        placed.push((tensor, dtype, entry));
        begin = end;
    }
    if begin > data.len() {
        return Err(CheckpointError::Incomplete {
            file: name.to_owned(),
            found: file.len(),
            wanted: header_bytes.saturating_add(begin),
        });
    }
    if begin < data.len() {
        return Err(CheckpointError::Format {
            file: name.to_owned(),
            reason: format!("found {} bytes of data, wanted {begin}", data.len()),
        });
    }
    let mut tensors = Tensors::new();
    for (tensor, dtype, entry) in placed {
        let (first, end) = entry.data_offsets;
        let made = Tensor::new(dtype, entry.shape.clone(), data.slice(first..end));
        let made = made.map_err(|error| CheckpointError::Offsets {
            file: name.to_owned(),
            tensor: tensor.clone(),
            found: entry.data_offsets,
            wanted: error.to_string(),
        })?;
        tensors.insert(tensor.clone(), made);
    }
    Ok(tensors)
}

/// The texts in the header of the file `name`, by key; a file may have none.
///
/// # Errors
/// When the header is not valid.
pub fn metadata(name: &str, file: &Bytes) -> Result<BTreeMap<String, String>, CheckpointError> {
    let (header, _) = split(name, file)?;
    let texts = header.metadata.as_ref().and_then(Value::as_object);
    let texts = texts.into_iter().flatten();
    // Other values are not the format's: nothing reads them.
    let texts = texts.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned())));
    Ok(texts.collect())
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
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= HEADER_MAX)
        .ok_or_else(|| {
            invalid(format!(
                "found a header of {length} bytes, wanted at most {HEADER_MAX}"
            ))
        })?;
    if length > rest.len() {
        return Err(CheckpointError::Incomplete {
            file: name.to_owned(),
            found: file.len(),
            wanted: LENGTH_BYTES + length,
        });
    }
    let header = serde_json::from_slice(&rest[..length])
        .map_err(|error| invalid(format!("its header: {error}")))?;
    Ok((header, file.slice(LENGTH_BYTES + length..)))
}

fn dtype(name: &str) -> Option<DType> {
    let found = DTYPES.iter().find(|(spelling, _)| *spelling == name);
    found.map(|(_, dtype)| *dtype)
}

/// The spellings of [`DTYPES`], for messages.
fn dtype_names() -> String {
    DTYPES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64, header: &str, data: usize) -> Bytes {
        let mut file = length.to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.resize(file.len() + data, 1);
        file.into()
    }

    fn check(header: &str, data: usize, wanted: &str) {
        let message = match parse("a", &file(header.len() as u64, header, data)) {
            Ok(tensors) => format!("{:?}", tensors.keys().collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        };
        assert!(
            message.contains(wanted),
            "{header}: found {message:?}, wanted {wanted:?}"
        );
    }

    #[test]
    fn every_claim_of_a_header_is_checked() {
        let cases = [
            (
                r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                r#"["a"]"#,
            ),
            (r#"{"__metadata__":{"format":"pt"}}"#, 0, "[]"),
            (
                r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
                0,
                r#"["a"]"#,
            ),
            (
                r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},
                    "a":{"dtype":"I8","shape":[2,1],"data_offsets":[0,2]}}"#,
                4,
                r#"["a", "b"]"#,
            ),
            (
                r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
                4,
                r#"tensor "a" in "a" has the element type "F8_E4M3", wanted one of BOOL, U8"#,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2,
                "wanted a begin at 0, without gap or overlap",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                    "b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                3,
                r#"tensor "b" in "a" lies at bytes (1, 3), wanted a begin at 2"#,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}"#,
                4,
                r#""a" is incomplete: it has 65 bytes, expected at least 70"#,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,18446744073709551615]}}"#,
                4,
                "wanted 9 bytes for u8 of shape [9]",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                "lies at bytes (0, 4), wanted 8 bytes for f32 of shape [2]",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#,
                4,
                "wanted a size within the address space",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
                1,
                "its header",
            ),
            (r#"{"a":{"dtype":"U8","shape":[1]}}"#, 1, "data_offsets"),
            (r#"{"a":1}"#, 0, "its header"),
            ("[]", 0, "its header"),
            ("", 0, "its header"),
            ("{}", 1, "found 1 bytes of data, wanted 0"),
        ];
        for (header, data, wanted) in cases {
            check(header, data, wanted);
        }
    }

    #[test]
    fn a_header_longer_than_its_file_is_refused_before_it_is_read() {
        let too_long =
            |length: u64| format!("found a header of {length} bytes, wanted at most {HEADER_MAX}");
        for (length, wanted) in [
            (
                3,
                "incomplete: it has 10 bytes, expected at least 11".to_owned(),
            ),
            (u64::MAX, too_long(u64::MAX)),
            (1 << 40, too_long(1 << 40)),
        ] {
            let message = match parse("a", &file(length, "{}", 0)) {
                Ok(_) => "read".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(&wanted), "{message}");
        }
        for short in 0..LENGTH_BYTES {
            let file = Bytes::from(vec![0; short]);
            assert!(parse("a", &file).is_err(), "{short} bytes");
        }
    }

    /// A valid file with any one byte changed is read or refused, and never more.
    #[test]
    fn damaged_files_do_not_panic() {
        let header = r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
        let valid = file(header.len() as u64, header, 8);
        for position in 0..valid.len() {
            for byte in [0, 1, b'"', b'0', b'9', b'{', 0x7f, 0xff] {
                let mut damaged = valid.to_vec();
                damaged[position] = byte;
                let read = parse("a", &damaged.into());
                assert!(read.is_err() || read.is_ok_and(|tensors| tensors.len() <= 1));
            }
        }
    }

    #[test]
    fn tensors_share_the_bytes_of_their_file() {
        let header = r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
        let file = file(header.len() as u64, header, 3);
        let tensors = parse("a", &file).expect("the file is valid");
        let begin = LENGTH_BYTES + header.len();
        assert_eq!(tensors["a"].bytes().as_ptr(), file[begin..].as_ptr());
    }
}
