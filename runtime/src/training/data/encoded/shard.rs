//! One shard of encoded data, read tensor by tensor.
//!
//! Takes a safetensors file by ranges, returns the tensors that are asked for. What the header says
//! is checked against the file, and shapes against what was expected.

use bytes::Bytes;
use compiler::DType;
use compiler::value::tensor::Tensor;

use super::super::error::Unreadable;
use super::super::files::DataFiles;
use crate::tensor_file::{self, Layout, TensorFileError};

/// An opened shard.
pub(super) struct Shard<'a> {
    files: &'a dyn DataFiles,
    name: &'a str,
    layout: Layout,
}

impl<'a> Shard<'a> {
    /// Reads the header.
    pub(super) fn open(files: &'a dyn DataFiles, name: &'a str) -> Result<Shard<'a>, Unreadable> {
        let failed = |error: std::io::Error| Unreadable::File {
            file: name.to_owned(),
            reason: error.to_string(),
        };
        let damaged = |error: TensorFileError| Unreadable::Encoded {
            file: name.to_owned(),
            reason: error.to_string(),
        };
        let length = files.length(name).map_err(failed)?;
        let start = files.read_range(name, 0..tensor_file::LENGTH_BYTES.min(length));
        let end = tensor_file::header_end(&start.map_err(failed)?, length).map_err(damaged)?;
        let header = files.read_range(name, tensor_file::LENGTH_BYTES..end);
        let layout = Layout::read(&header.map_err(failed)?, length).map_err(damaged)?;
        Ok(Shard {
            files,
            name,
            layout,
        })
    }

    /// A tensor of this shape.
    pub(super) fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor, Unreadable> {
        let (found, _) = self.found(tensor)?;
        if found != shape {
            return Err(self.wrong(format!(
                "{tensor:?} is of shape {found:?}, expected {shape:?}"
            )));
        }
        self.bytes(tensor, shape.to_vec(), 0)
    }

    /// How many rows of this shape a tensor has, at least 1.
    pub(super) fn rows(&self, tensor: &str, row: &[usize]) -> Result<usize, Unreadable> {
        let (found, _) = self.found(tensor)?;
        match found.split_first() {
            Some((rows @ 1.., own)) if own == row => Ok(*rows),
            _ => Err(self.wrong(format!(
                "{tensor:?} is of shape {found:?}, expected rows of {row:?}"
            ))),
        }
    }

    /// One row of a tensor that has it, `[1, …]`.
    pub(super) fn row(
        &self,
        tensor: &str,
        row: &[usize],
        number: usize,
    ) -> Result<Tensor, Unreadable> {
        self.bytes(tensor, [&[1], row].concat(), number)
    }

    /// One of the parts of this shape that an f32 tensor consists of, by its index.
    fn bytes(&self, tensor: &str, shape: Vec<usize>, number: usize) -> Result<Tensor, Unreadable> {
        let (_, range) = self.found(tensor)?;
        let length = 4 * shape.iter().product::<usize>() as u64;
        let start = range.start + number as u64 * length;
        let read = self.files.read_range(self.name, start..start + length);
        let bytes: Bytes = read.map_err(|error| Unreadable::File {
            file: self.name.to_owned(),
            reason: error.to_string(),
        })?;
        Tensor::new(DType::F32, shape, bytes).map_err(|error| self.wrong(error.to_string()))
    }

    /// The shape and the place of a tensor of f32.
    fn found(&self, tensor: &str) -> Result<(&[usize], std::ops::Range<u64>), Unreadable> {
        match self.layout.tensor(tensor) {
            Some((Some(DType::F32), shape, range)) => Ok((shape, range)),
            Some(_) => Err(self.wrong(format!("{tensor:?} is not of type f32"))),
            None => Err(self.wrong(format!("{tensor:?} is missing"))),
        }
    }

    fn wrong(&self, reason: String) -> Unreadable {
        Unreadable::Encoded {
            file: self.name.to_owned(),
            reason,
        }
    }
}
