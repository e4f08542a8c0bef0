//! Named tensors in safetensors files, as `run` and `--latents-in` read and write them.
//!
//! Takes paths, returns tensors and back; never converts a value.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use compiler::value::tensor::Tensor;
use graphs::source::Source;
use runtime::artifact::Files;
use runtime::tensor_file;

use crate::error::said;
use crate::error::{At, Failure};
use crate::files::{self, Folder};
use crate::outputs;

/// Reads every tensor of a safetensors file.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, Failure> {
    let bytes = files::read(path)?;
    tensor_file::read(&bytes).at(path.display())
}

/// As [`read`], of weights: each is read when it is needed.
pub(crate) fn read_weights(path: &Path) -> Result<BTreeMap<String, Tensor>, Failure> {
    let folder = Folder::new(path.parent().unwrap_or(Path::new("")));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = Files::view(&folder, &name).map_err(said);
    let tensors = tensor_file::read(&bytes.at(path.display())?).at(path.display())?;
    let stored = |(name, tensor)| (name, folder.stored(tensor));
    Ok(tensors.into_iter().map(stored).collect())
}

/// Writes tensors to a safetensors file.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let parts: Vec<Bytes> = tensor_file::parts(named).at(path.display())?;
    outputs::write(path, &parts)
}
