//! Named tensors in safetensors files, as `run` and `--latents-in` read and write them.
//!
//! Takes paths, returns tensors over mapped bytes and back; never converts a value.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use compiler::value::tensor::Tensor;
use runtime::tensor_file;

use crate::error::{At, Failure};
use crate::{files, outputs};

/// Reads every tensor of a safetensors file.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, Failure> {
    let bytes = files::map(path)?;
    tensor_file::read(&bytes).at(path.display())
}

/// Writes tensors to a safetensors file.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let parts: Vec<Bytes> = tensor_file::parts(named).at(path.display())?;
    outputs::write(path, &parts)
}
