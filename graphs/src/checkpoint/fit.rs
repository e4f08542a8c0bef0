//! Fits the tensors of a checkpoint to the weight parameters of a function.
//!
//! Takes tensors by name, gives exactly one for each parameter, of its type. A tensor that is
//! missing, left over or of another shape is an error: a model is never half loaded in silence.

use compiler::graph::{Func, Role, TensorType};
use compiler::value::dtype::DType;

use super::error::CheckpointError;
use super::safetensors::Tensors;

/// Names that an error lists before it stops.
const LISTED_MAX: usize = 4;

/// One tensor for each weight parameter of `func`. Floats are converted to the parameter's
/// element type, but for f32 where that has 16 bits: such tensors stay as they are stored, and
/// whoever packs them rounds them once, after all that is added to them. Tensors that are not
/// converted keep sharing their bytes.
///
/// `elsewhere` tells names that another function of the same checkpoint uses, or that are known
/// to mean nothing.
///
/// # Errors
/// When a parameter has no tensor, a tensor has no parameter, types differ, or a file was changed
/// before it was read.
pub fn fit(
    func: &Func,
    mut tensors: Tensors,
    elsewhere: impl Fn(&str) -> bool,
) -> Result<Tensors, CheckpointError> {
    let model = func.name();
    check_missing(func, &tensors)?;
    let mut weights = Tensors::new();
    for (_, name, wanted) in func.params(Role::Weight) {
        let Some(tensor) = tensors.remove(name) else {
            continue; // Checked above: every parameter has its tensor.
        };
        let found = TensorType::of(&tensor);
        if found.shape != wanted.shape || !convertible(found.dtype, wanted.dtype) {
            return Err(CheckpointError::Type {
                model: model.to_owned(),
                tensor: name.to_owned(),
                found,
                wanted: wanted.clone(),
            });
        }
        let weight = match found.dtype == wanted.dtype || rounds_later(found.dtype, wanted.dtype) {
            true => tensor,
            false => tensor.fetched()?.cast(wanted.dtype),
        };
        weights.insert(name.to_owned(), weight);
    }
    let extra: Vec<String> = tensors
        .into_keys()
        .filter(|name| !elsewhere(name))
        .collect();
    match extra.len() {
        0 => Ok(weights),
        count => Err(CheckpointError::Extra {
            model: model.to_owned(),
            count,
            tensors: extra.into_iter().take(LISTED_MAX).collect(),
        }),
    }
}

fn check_missing(func: &Func, tensors: &Tensors) -> Result<(), CheckpointError> {
    let mut missing = func
        .params(Role::Weight)
        .filter(|(_, name, _)| !tensors.contains_key(*name));
    match missing.next() {
        None => Ok(()),
        Some((_, tensor, wanted)) => Err(CheckpointError::Missing {
            model: func.name().to_owned(),
            tensor: tensor.to_owned(),
            wanted: wanted.clone(),
            count: 1 + missing.count(),
        }),
    }
}

/// Whether a tensor of `found` stays as it is until a parameter of `wanted` is packed.
fn rounds_later(found: DType, wanted: DType) -> bool {
    found == DType::F32 && matches!(wanted, DType::F16 | DType::BF16)
}

/// Whether values of `found` may become a parameter of `wanted`: floats of every width may,
/// anything else must be of the very type.
fn convertible(found: DType, wanted: DType) -> bool {
    found == wanted || found.is_float() && wanted.is_float()
}
