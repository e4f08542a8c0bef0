//! Inputs and outputs of a pipeline's networks, by name.
//!
//! Takes the declared inputs or the results of a session, gives the one that is wanted, or says
//! what is there instead.

use compiler::DType;
use compiler::graph::TensorType;
use compiler::value::tensor::{Tensor, Values};

use crate::pipeline::error::SamplingError;

/// The timestep as the network declares it: a scalar, or one per picture.
pub(crate) fn timestep(timestep: f64, ty: &TensorType) -> Tensor {
    let shape = ty.extents().unwrap_or_default();
    let count = shape.iter().product();
    Tensor::from_values(ty.dtype, &shape, &Values::Float(vec![timestep; count]))
}

pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.cast(DType::F32);
    let (numbers, _) = tensor.bytes().as_chunks();
    numbers.iter().copied().map(f32::from_le_bytes).collect()
}

pub(crate) fn input_type<'a>(
    inputs: &'a [(String, TensorType)],
    component: &str,
    wanted: &str,
) -> Result<&'a TensorType, SamplingError> {
    match inputs.iter().find(|(name, _)| name == wanted) {
        Some((_, ty)) => Ok(ty),
        None => {
            let found = inputs.iter().map(|(name, _)| name.clone()).collect();
            Err(SamplingError::Interface {
                component: component.to_owned(),
                found,
                wanted: wanted.to_owned(),
            })
        }
    }
}

pub(crate) fn output(
    outputs: &mut Vec<(String, Tensor)>,
    component: &str,
    wanted: &str,
) -> Result<Tensor, SamplingError> {
    match outputs.iter().position(|(name, _)| name == wanted) {
        Some(position) => Ok(outputs.swap_remove(position).1),
        None => {
            let found = outputs.iter().map(|(name, _)| name.clone()).collect();
            Err(SamplingError::Interface {
                component: component.to_owned(),
                found,
                wanted: wanted.to_owned(),
            })
        }
    }
}
