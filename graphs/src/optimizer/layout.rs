//! Where each parameter lies in a flat tensor of all.
//!
//! Takes the function of a network, gives names, offsets and shapes in the order of its weights;
//! cuts flat values into parameters, joins parameters to flat tensors. It computes nothing.

use std::collections::BTreeMap;

use compiler::graph::{Builder, Func, GraphError, Role, Value};
use compiler::ops::{Cast, Reshape, Slice};
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;

use super::error::OptimizerError;

/// One parameter's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The parameter's name.
    pub name: String,
    /// The index of its first element.
    pub offset: usize,
    /// Its extents.
    pub shape: Vec<usize>,
}

impl Place {
    /// Its number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The places of all parameters of a network, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    places: Vec<Place>,
    total: usize,
}

impl Layout {
    /// The layout of the weights of `body`, in their order.
    ///
    /// # Errors
    /// When an extent of a weight is not known.
    pub fn of(body: &Func) -> Result<Layout, OptimizerError> {
        let (mut places, mut total) = (Vec::new(), 0_usize);
        for (_, name, ty) in body.params(Role::Weight) {
            let unknown = || OptimizerError::Unknown {
                name: name.to_owned(),
                ty: ty.clone(),
            };
            let place = Place {
                name: name.to_owned(),
                offset: total,
                shape: ty.extents().ok_or_else(unknown)?,
            };
            total = total.checked_add(place.elements()).ok_or_else(unknown)?;
            places.push(place);
        }
        Ok(Layout { places, total })
    }

    /// Every parameter's place, in rising order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The number of elements of all parameters.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The parameters in `flat` (f32 `[total]`), in their shapes and cast to the types that `body`
    /// gives them: f32 masters of networks that compute in bf16 or f16.
    ///
    /// # Errors
    /// When `flat` is too short.
    pub(crate) fn split(
        &self,
        builder: &mut Builder,
        flat: Value,
        body: &Func,
    ) -> Result<Vec<Value>, GraphError> {
        let mut values = Vec::new();
        for (place, (_, _, ty)) in self.places.iter().zip(body.params(Role::Weight)) {
            builder.at(&place.name);
            let slice = Slice::new(0, place.offset, place.elements());
            let mut value = builder.push(slice, &[flat])?;
            let shape = ty.shape.clone();
            value = builder.push(Reshape { shape }, &[value])?;
            if ty.dtype != DType::F32 {
                let dtype = ty.dtype;
                value = builder.push(Cast { dtype }, &[value])?;
            }
            values.push(value);
        }
        builder.at("");
        Ok(values)
    }

    /// One flat f32 tensor `[total]` of the parameters in `tensors`, which may have any float type.
    ///
    /// # Errors
    /// When a parameter is missing, has another shape or cannot be read.
    pub fn join(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Tensor, OptimizerError> {
        let mut flat = Vec::new();
        for place in &self.places {
            let found = tensors.get(&place.name);
            match found.filter(|tensor| tensor.shape() == place.shape) {
                Some(tensor) => flat.extend_from_slice(tensor.fetched()?.cast(DType::F32).bytes()),
                None => {
                    return Err(OptimizerError::Parameter {
                        name: place.name.clone(),
                        found: found.map(|tensor| tensor.shape().to_vec()),
                        wanted: place.shape.clone(),
                    });
                }
            }
        }
        let flat = Tensor::new(DType::F32, vec![self.total], flat.into());
        Ok(flat.expect("every place is filled"))
    }

    /// The parameters in `flat` (f32 `[total]`) by name; they share its bytes.
    ///
    /// # Errors
    /// When `flat` has another type or length.
    pub fn cut(&self, flat: &Tensor) -> Result<BTreeMap<String, Tensor>, OptimizerError> {
        if flat.dtype() != DType::F32 || flat.shape() != [self.total] {
            return Err(OptimizerError::Parameter {
                name: "all parameters".to_owned(),
                found: Some(flat.shape().to_vec()),
                wanted: vec![self.total],
            });
        }
        let size = DType::F32.bytes();
        let cut = |place: &Place| {
            let range = place.offset * size..(place.offset + place.elements()) * size;
            let bytes = flat.bytes().slice(range);
            let tensor = Tensor::new(DType::F32, place.shape.clone(), bytes);
            let tensor = tensor.expect("a place holds as many bytes as its shape needs");
            (place.name.clone(), tensor)
        };
        Ok(self.places.iter().map(cut).collect())
    }
}
