//! What the caller gives for parameters, against what the function declares.

use compiler::DType;
use compiler::graph::eval::EvalError;
use compiler::graph::{Role, TensorType};
use compiler::value::extents::Extents;
use compiler::value::tensor::Tensor;

pub(super) fn ty(extents: &Extents) -> TensorType {
    TensorType::new(extents.dtype, extents.shape.iter().copied())
}

/// The tensor given for a parameter, if it has the parameter's shape and element type, or another
/// float type where `widening`.
pub(super) fn check<'a>(
    role: Role,
    name: &str,
    wanted: &TensorType,
    given: Option<&'a Tensor>,
    widening: bool,
) -> Result<&'a Tensor, EvalError> {
    let Some(tensor) = given else {
        let (name, ty) = (name.to_owned(), wanted.clone());
        return Err(EvalError::Missing { role, name, ty });
    };
    let found = TensorType::of(tensor);
    let floats = |a: DType, b: DType| a.is_float() && b.is_float();
    let fits = found.dtype == wanted.dtype || (widening && floats(found.dtype, wanted.dtype));
    if !fits || found.shape != wanted.shape {
        let (name, wanted) = (name.to_owned(), wanted.clone());
        return Err(EvalError::Type {
            role,
            name,
            found,
            wanted,
        });
    }
    Ok(tensor)
}
