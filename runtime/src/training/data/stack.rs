//! Rows of a batch put together.
//!
//! Takes tensors whose first axis counts rows, returns one of all rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::value::tensor::Tensor;

/// All rows of tensors that differ in nothing but the number of rows; nothing of no tensor, or if
/// their other extents or types differ.
pub(super) fn rows<'a>(parts: impl Iterator<Item = &'a Tensor> + Clone) -> Option<Tensor> {
    let first = parts.clone().next()?;
    let (_, row) = first.shape().split_first()?;
    let mut count = 0;
    let mut bytes = Vec::new();
    for part in parts {
        let (own, other) = part.shape().split_first()?;
        if other != row || part.dtype() != first.dtype() {
            return None;
        }
        count += own;
        bytes.extend_from_slice(part.bytes());
    }
    let shape = [&[count], row].concat();
    Tensor::new(first.dtype(), shape, Bytes::from(bytes)).ok()
}

/// The same of the tensors of each name that all have.
pub(super) fn stack(parts: &[BTreeMap<String, Tensor>]) -> BTreeMap<String, Tensor> {
    let names = parts.first().into_iter().flat_map(BTreeMap::keys);
    let stacked = |name: &String| {
        let tensors: Option<Vec<&Tensor>> = parts.iter().map(|part| part.get(name)).collect();
        Some((name.clone(), rows(tensors?.into_iter())?))
    };
    names.filter_map(stacked).collect()
}
