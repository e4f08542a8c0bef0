//! Safetensors: bytes to named tensors and back.
//!
//! Takes a file's bytes (often a map) or named tensors; gives tensors that share those bytes, or
//! the parts of a file that share the tensors' bytes. Never copies tensor data, never trusts a
//! header: types, shapes, offsets and length are checked against each other and the file.
//! Format: <https://huggingface.co/docs/safetensors>; the header's rules are the crate's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use compiler::DType;
use compiler::value::tensor::{Tensor, TensorError};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use thiserror::Error;

/// Bytes of the header's length, which comes first.
pub(crate) const LENGTH_BYTES: u64 = 8;
/// The format's own bound on a header.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// Tensor data starts at a multiple of this many bytes: a cache line, and enough for any vector.
const DATA_ALIGNMENT: usize = 64;
/// The header's key that is not a tensor.
const METADATA_KEY: &str = "__metadata__";

/// Why bytes are not a safetensors file, or tensors cannot become one.
#[derive(Debug, Error)]
pub enum TensorFileError {
    /// The header is longer than the file or than the format allows.
    #[error("found a header of {header} bytes in a safetensors file of {file} bytes")]
    HeaderLength {
        /// Bytes that the file claims for its header.
        header: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// The header is malformed, or its offsets leave holes, overlap or do not fit the shapes.
    #[error("the safetensors header is not valid: {source}")]
    Header {
        /// What the reader says.
        source: serde_json::Error,
    },
    /// The header describes more or less data than the file holds.
    #[error("found {found} bytes of tensor data, wanted {wanted} by the safetensors header")]
    DataLength {
        /// Bytes after the header.
        found: u64,
        /// Bytes that the header describes.
        wanted: u64,
    },
    /// The element type is none of ours.
    #[error(
        "found element type {found} in tensor {tensor:?}, wanted one of bool, 8-, 32- or 64-bit integers, f16, bf16, f32, f64"
    )]
    ElementType {
        /// The tensor's name.
        tensor: String,
        /// The type's name in the header.
        found: String,
    },
    /// The tensor's shape and bytes differ.
    #[error("tensor {tensor:?}: {source}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What differs.
        source: TensorError,
    },
    /// The header would be ambiguous or longer than the format allows.
    #[error("a safetensors file cannot hold a tensor named {tensor:?}")]
    Name {
        /// The name refused.
        tensor: String,
    },
    /// The tensors are too many, or too large together.
    #[error("the tensors exceed what one safetensors file can describe")]
    TooLarge,
}

/// The tensors of a safetensors file, sharing its bytes.
///
/// # Errors
/// When the header is malformed or does not describe the file exactly.
pub fn read(file: &Bytes) -> Result<BTreeMap<String, Tensor>, TensorFileError> {
    let length = file.len() as u64;
    let end = header_end(file, length)? as usize;
    let layout = Layout::read(&file[LENGTH_BYTES as usize..end], length)?;
    let mut tensors = BTreeMap::new();
    for (name, info) in layout.metadata.tensors() {
        let Some(dtype) = dtype_of(info.dtype) else {
            return Err(TensorFileError::ElementType {
                tensor: name,
                found: info.dtype.to_string(),
            });
        };
        let (start, stop) = info.data_offsets;
        let bytes = file.slice(end + start..end + stop);
        match Tensor::new(dtype, info.shape.clone(), bytes) {
            Ok(tensor) => tensors.insert(name, tensor),
            Err(source) => {
                return Err(TensorFileError::Tensor {
                    tensor: name,
                    source,
                });
            }
        };
    }
    Ok(tensors)
}

/// Where the header of a file of `length` bytes ends, as its first bytes say.
///
/// # Errors
/// When that is after the file's end, or the header is longer than the format allows.
pub(crate) fn header_end(start: &[u8], length: u64) -> Result<u64, TensorFileError> {
    let wrong = |header| TensorFileError::HeaderLength {
        header,
        file: length,
    };
    let (claimed, _) = start.split_first_chunk().ok_or(wrong(0))?;
    let claimed = u64::from_le_bytes(*claimed);
    let end = LENGTH_BYTES.checked_add(claimed);
    end.filter(|end| *end <= length && claimed <= HEADER_BYTES_MAX as u64)
        .ok_or(wrong(claimed))
}

/// Where the tensors of a file are.
pub(crate) struct Layout {
    metadata: Metadata,
    data_start: u64,
}

impl Layout {
    /// Reads the header of a file of `length` bytes, from its second part to [`header_end`].
    ///
    /// `Metadata`'s own reading refuses offsets that do not follow each other from 0 or do not fit
    /// type and shape. The file's length is checked here and not by `SafeTensors::read_metadata`,
    /// whose sum of header and data overflows where the shapes add up to nearly 2⁶⁴.
    ///
    /// # Errors
    /// When the header is malformed or does not describe the file exactly.
    pub(crate) fn read(header: &[u8], length: u64) -> Result<Layout, TensorFileError> {
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|source| TensorFileError::Header { source })?;
        let data_start = LENGTH_BYTES + header.len() as u64;
        let (found, wanted) = (
            length.saturating_sub(data_start),
            metadata.data_len() as u64,
        );
        match found == wanted {
            true => Ok(Layout {
                metadata,
                data_start,
            }),
            false => Err(TensorFileError::DataLength { found, wanted }),
        }
    }

    /// The element type, if it is one of ours, the shape and the bytes of a tensor in the file.
    pub(crate) fn tensor(&self, name: &str) -> Option<(Option<DType>, &[usize], Range<u64>)> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        let range = self.data_start + start as u64..self.data_start + end as u64;
        Some((dtype_of(info.dtype), &info.shape, range))
    }
}

/// A safetensors file of these tensors, as parts that follow each other: the header, then each
/// tensor's own bytes. Wider element types come first, so that every tensor is aligned to its
/// element, and within one width the given order holds; the header is padded with spaces, so that
/// the data starts at a multiple of 64 bytes. Same tensors in the same order, same bytes.
///
/// # Errors
/// When a name occurs twice or is reserved, or the header would exceed the format's bound.
pub fn parts<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<Vec<Bytes>, TensorFileError> {
    parts_about(&BTreeMap::new(), tensors)
}

/// As [`parts`], with a text for each key in the file's `__metadata__`, where other tools look for
/// what tensors are.
///
/// # Errors
/// As [`parts`].
pub fn parts_about<'a>(
    about: &BTreeMap<String, String>,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<Vec<Bytes>, TensorFileError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().bytes()));
    let mut seen = BTreeSet::from([METADATA_KEY]);
    let mut infos = Vec::with_capacity(tensors.len());
    let mut end = 0usize;
    for (name, tensor) in &tensors {
        if !seen.insert(name) {
            let tensor = (*name).to_owned();
            return Err(TensorFileError::Name { tensor });
        }
        let start = end;
        let length = tensor.bytes().len();
        end = start.checked_add(length).ok_or(TensorFileError::TooLarge)?;
        let info = TensorInfo {
            dtype: dtype_in_file(tensor.dtype()),
            shape: tensor.shape().to_vec(),
            data_offsets: (start, end),
        };
        infos.push(((*name).to_owned(), info));
    }
    let metadata = Metadata::new(None, infos).map_err(|_| TensorFileError::TooLarge)?;
    let json = |source| TensorFileError::Header { source };
    let mut header = serde_json::to_vec(&metadata).map_err(json)?;
    if !about.is_empty() {
        // The crate keeps these texts in a map without an order, and the same tensors are to make
        // the same bytes.
        let about = serde_json::to_string(about).map_err(json)?;
        let comma = if tensors.is_empty() { "" } else { "," };
        let start = format!("{{\"{METADATA_KEY}\":{about}{comma}");
        header.splice(..1, start.into_bytes());
    }
    let before = LENGTH_BYTES as usize;
    let unpadded = before + header.len();
    header.resize(unpadded.next_multiple_of(DATA_ALIGNMENT) - before, b' ');
    if header.len() > HEADER_BYTES_MAX {
        return Err(TensorFileError::TooLarge);
    }
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.append(&mut header);
    let data = tensors.iter().map(|(_, tensor)| tensor.bytes().clone());
    Ok(std::iter::once(Bytes::from(start)).chain(data).collect())
}

/// At most this many bytes of a file's header describe this tensor: punctuation and keys, the
/// name with every character escaped, the extents and two offsets in full length.
pub(crate) fn header_bytes_max(name: &str, tensor: &Tensor) -> usize {
    const PUNCTUATION_AND_OFFSETS: usize = 128;
    const ESCAPED_BYTE: usize = 6;
    const DIGITS: usize = 21;
    let text = name.len().saturating_mul(ESCAPED_BYTE);
    let extents = tensor.shape().len().saturating_mul(DIGITS);
    text.saturating_add(extents)
        .saturating_add(PUNCTUATION_AND_OFFSETS)
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::BOOL => Some(DType::Bool),
        Dtype::U8 => Some(DType::U8),
        Dtype::I8 => Some(DType::I8),
        Dtype::I32 => Some(DType::I32),
        Dtype::I64 => Some(DType::I64),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F32 => Some(DType::F32),
        Dtype::F64 => Some(DType::F64),
        // The format's list is open; what is not ours is refused by name.
        _ => None,
    }
}

fn dtype_in_file(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::I8 => Dtype::I8,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data_bytes: usize) -> Bytes {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data_bytes, 0);
        file.into()
    }

    fn check_refused(file: impl Into<Bytes>, wanted: &str) {
        let message = match read(&file.into()) {
            Ok(tensors) => format!("accepted {tensors:?}"),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(wanted), "{message} lacks {wanted}");
    }

    #[test]
    fn tensors_come_back_aligned_and_in_few_bytes() {
        let tensors = BTreeMap::from([
            (
                "a \"quoted\" é\n".to_owned(),
                Tensor::from_f32(&[2], &[1.0, 2.0]),
            ),
            ("b".to_owned(), Tensor::from_i64(&[1, 1], &[-3])),
            ("c".to_owned(), Tensor::from_f32(&[], &[7.0])),
            ("d".to_owned(), Tensor::from_f32(&[0, 5], &[])),
        ]);
        let borrowed = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let parts = parts(borrowed.clone()).expect("the names are good");
        assert_eq!(parts[0].len() % DATA_ALIGNMENT, 0);
        let bound: usize = borrowed
            .map(|(name, tensor)| header_bytes_max(name, tensor))
            .sum();
        assert!(parts[0].len() <= bound);
        let file: Bytes = parts.concat().into();
        assert_eq!(read(&file).expect("the file is ours"), tensors);
        let theirs = safetensors::SafeTensors::deserialize(&file).expect("the crate reads it");
        assert_eq!(theirs.len(), 4);
    }

    #[test]
    fn names_that_break_the_header_are_refused() {
        let tensor = Tensor::from_f32(&[], &[0.0]);
        for names in [["a", "a"], ["a", "__metadata__"]] {
            let refused = parts(names.map(|name| (name, &tensor))).is_err();
            assert!(refused, "{names:?}");
        }
    }

    #[test]
    fn lying_headers_are_refused() {
        let whole = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        read(&file(whole, 8)).expect("the honest header is read");
        let cases = [
            (whole, 7, "found 7 bytes of tensor data, wanted 8"),
            (whole, 9, "found 9 bytes of tensor data, wanted 8"),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
                "invalid offset",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
                8,
                "invalid offset",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
                8,
                "not valid",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#,
                12,
                "invalid offset",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
                8,
                "not valid",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}"#,
                8,
                "wanted 2305843009213693951",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[36893488147419103232],"data_offsets":[0,8]}}"#,
                8,
                "not valid",
            ),
            (
                r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#,
                8,
                "F8_E4M3",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
                8,
                "not valid",
            ),
            ("[]", 0, "not valid"),
            ("", 0, "not valid"),
        ];
        for (header, data_bytes, wanted) in cases {
            check_refused(file(header, data_bytes), wanted);
        }
        check_refused(vec![1, 0, 0], "file of 3 bytes");
        check_refused(vec![0xFF; 16], "18446744073709551615 bytes in");
        check_refused(9u64.to_le_bytes().to_vec(), "header of 9 bytes");
        check_refused(
            [&100_000_001u64.to_le_bytes()[..], &[b' '; 64]].concat(),
            "header of 100000001",
        );
    }
}
