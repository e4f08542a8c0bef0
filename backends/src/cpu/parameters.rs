//! What the caller gives for parameters, against what the function declares.

use compiler::graph::eval::{EvalError, check_param};
use compiler::graph::{Role, TensorType};
use compiler::value::tensor::Tensor;

/// The tensor given for a parameter, if it has the parameter's shape and element type, or another
/// float type where `widening`.
pub(super) fn check<'a>(
    role: Role,
    name: &str,
    wanted: &TensorType,
    given: Option<&'a Tensor>,
    widening: bool,
) -> Result<&'a Tensor, EvalError> {
    let floats = |tensor: &&Tensor| tensor.dtype().is_float() && wanted.dtype.is_float();
    let same_shape = |tensor: &&Tensor| TensorType::of(tensor).shape == wanted.shape;
    match given.filter(|_| widening).filter(floats).filter(same_shape) {
        Some(tensor) => Ok(tensor),
        None => check_param(role, name, wanted, given),
    }
}
