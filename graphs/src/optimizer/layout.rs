//! The layout of a network's parameters, and the nodes that cut them out of a flat tensor.
//!
//! Takes the function of a network, returns the layout of its weights; takes a flat value, returns
//! parameters in their shapes. It computes nothing.

use compiler::graph::{Builder, Func, GraphError, Role, TensorType, Value};
use compiler::ops::{Cast, Reshape, Slice};
use compiler::program::training::Layout;
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;

use super::error::OptimizerError;

/// The layout of the weights of `body`, in their order.
///
/// # Errors
/// When an extent of a weight is not known.
pub fn layout_of(body: &Func) -> Result<Layout, OptimizerError> {
    let shape = |(_, name, ty): (Value, &str, &TensorType)| {
        let extents = ty.extents().ok_or_else(|| OptimizerError::Unknown {
            name: name.to_owned(),
            ty: ty.clone(),
        });
        Ok((name.to_owned(), extents?))
    };
    let parameters = body.params(Role::Weight).map(shape);
    Ok(Layout::new(
        parameters.collect::<Result<_, OptimizerError>>()?,
    )?)
}

/// The parameters in `flat` (f32 `[total]`), in their shapes and cast to the types that `body`
/// gives them: f32 masters of networks that compute in bf16 or f16.
///
/// # Errors
/// When `flat` is too short.
pub(crate) fn split(
    layout: &Layout,
    builder: &mut Builder,
    flat: Value,
    body: &Func,
) -> Result<Vec<Value>, GraphError> {
    let mut values = pieces(layout, builder, flat)?;
    for (value, (_, name, ty)) in values.iter_mut().zip(body.params(Role::Weight)) {
        if ty.dtype != DType::F32 {
            builder.at(name);
            let dtype = ty.dtype;
            *value = builder.push(Cast { dtype }, &[*value])?;
        }
    }
    builder.at("");
    Ok(values)
}

/// The parameters in `flat` (f32 `[total]`) in their shapes, f32.
///
/// # Errors
/// When `flat` is too short.
pub(crate) fn pieces(
    layout: &Layout,
    builder: &mut Builder,
    flat: Value,
) -> Result<Vec<Value>, GraphError> {
    let mut values = Vec::new();
    for place in layout.places() {
        builder.at(&place.name);
        let slice = Slice::new(0, place.offset, place.elements());
        let value = builder.push(slice, &[flat])?;
        let shape = place
            .shape
            .iter()
            .map(|&extent| Dim::from(extent))
            .collect();
        values.push(builder.push(Reshape { shape }, &[value])?);
    }
    builder.at("");
    Ok(values)
}
