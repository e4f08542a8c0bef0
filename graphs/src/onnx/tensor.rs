//! Tensors of an ONNX file: typed data in the message, raw bytes, or a range of another file.
//!
//! Takes a message and the model's folder, gives a tensor that shares the bytes of the file where
//! the format allows it. It allocates nothing that the file's own length does not bound, and reads
//! no file outside of the model's folder.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::DType;
use compiler::value::tensor::{Tensor, TensorError, Values};

use super::bounds::RANK_MAX;
use super::error::TensorProblem;
use super::proto::{TensorProto, element_type, element_type_name};
use crate::source::{Source, SourceError, join};

/// The folder of a model, with the files of external data read so far.
pub(crate) struct Folder<'s> {
    source: &'s dyn Source,
    path: String,
    files: RefCell<BTreeMap<String, Bytes>>,
}

impl<'s> Folder<'s> {
    /// The folder at `path` of `source`.
    pub(crate) fn new(source: &'s dyn Source, path: &str) -> Folder<'s> {
        Folder {
            source,
            path: path.to_owned(),
            files: RefCell::default(),
        }
    }

    fn read(&self, location: &str) -> Result<(String, Bytes), SourceError> {
        let path = join(&self.path, location)?;
        if let Some(bytes) = self.files.borrow().get(&path) {
            return Ok((path, bytes.clone()));
        }
        let bytes = self.source.read(&path)?;
        self.files.borrow_mut().insert(path.clone(), bytes.clone());
        Ok((path, bytes))
    }
}

/// The tensor of a message.
///
/// # Errors
/// When type, shape and data do not fit each other, or external data cannot be had.
pub(crate) fn tensor(proto: &TensorProto, folder: &Folder<'_>) -> Result<Tensor, TensorProblem> {
    let dtype = element_type(proto.data_type).ok_or_else(|| TensorProblem::Type {
        found: element_type_name(proto.data_type),
    })?;
    let shape = shape(&proto.dims)?;
    if proto.data_location == 1 {
        let bytes = external(proto, folder)?;
        return Ok(raw(dtype, shape, bytes)?);
    }
    if let Some(bytes) = &proto.raw_data {
        return Ok(raw(dtype, shape, bytes.clone())?);
    }
    listed(dtype, shape, proto)
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, TensorProblem> {
    if dims.len() > RANK_MAX {
        return Err(TensorProblem::Rank { found: dims.len() });
    }
    let extents: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    extents.ok_or_else(|| TensorProblem::Shape {
        dims: dims.to_vec(),
    })
}

/// A tensor over raw bytes; truth values other than 0 and 1 are made 1.
fn raw(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Result<Tensor, TensorError> {
    let odd = dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1);
    match odd {
        true => {
            let truths: Vec<u8> = bytes.iter().map(|&byte| u8::from(byte != 0)).collect();
            Tensor::new(dtype, shape, truths.into())
        }
        false => Tensor::new(dtype, shape, bytes),
    }
}

/// A tensor over the typed fields of the message.
fn listed(dtype: DType, shape: Vec<usize>, proto: &TensorProto) -> Result<Tensor, TensorProblem> {
    let halves = |ints: &[i32]| -> Vec<u8> {
        // The low 16 bits are those of the half.
        ints.iter()
            .flat_map(|&bits| (bits as u16).to_le_bytes())
            .collect()
    };
    let (found, bytes): (usize, Vec<u8>) = match dtype {
        DType::F32 => {
            let data = &proto.float_data;
            (
                data.len(),
                data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        }
        DType::F64 => {
            let data = &proto.double_data;
            (
                data.len(),
                data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        }
        DType::I64 => {
            let data = &proto.int64_data;
            (
                data.len(),
                data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        }
        DType::F16 | DType::BF16 => (proto.int32_data.len(), halves(&proto.int32_data)),
        DType::Bool | DType::U8 | DType::I8 | DType::I32 => {
            let data = &proto.int32_data;
            let ints = Values::Int(data.iter().map(|&v| i64::from(v)).collect());
            let tensor = Tensor::from_values(dtype, &[data.len()], &ints);
            (data.len(), tensor.bytes().to_vec())
        }
    };
    let wanted = shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if wanted != Some(found) {
        return Err(TensorProblem::Elements { found, shape });
    }
    Ok(Tensor::new(dtype, shape, bytes.into())?)
}

/// The bytes of a tensor whose data are in another file.
fn external(proto: &TensorProto, folder: &Folder<'_>) -> Result<Bytes, TensorProblem> {
    let (mut location, mut offset, mut length) = (None, 0, None);
    for entry in &proto.external_data {
        let number = || {
            entry
                .value
                .parse::<u64>()
                .map_err(|_| TensorProblem::ExternalEntry {
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                })
        };
        match entry.key.as_str() {
            "location" => location = Some(entry.value.as_str()),
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            // A checksum, or an annotation of a tool.
            _ => {}
        }
    }
    let location = location.ok_or_else(|| TensorProblem::ExternalEntry {
        key: "location".to_owned(),
        value: String::new(),
    })?;
    let (path, file) = folder.read(location)?;
    let length = length.unwrap_or_else(|| (file.len() as u64).saturating_sub(offset));
    let outside = || TensorProblem::ExternalRange {
        path: path.clone(),
        file_bytes: file.len(),
        offset,
        length,
    };
    let end = offset
        .checked_add(length)
        .filter(|&end| end <= file.len() as u64);
    let (start, end) = match (usize::try_from(offset), end.map(usize::try_from)) {
        (Ok(start), Some(Ok(end))) => (start, end),
        (_, _) => return Err(outside()),
    };
    Ok(file.slice(start..end))
}
