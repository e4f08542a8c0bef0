//! Where each parameter is stored in a flat tensor of all.
//!
//! Takes names and shapes in an order, returns offsets; joins parameters to flat tensors and cuts
//! flat tensors into parameters. It computes nothing.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::value::dtype::DType;
use crate::value::stored::ReadError;
use crate::value::tensor::Tensor;

/// Where one parameter is stored.
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

/// Where all parameters of a network are stored, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    places: Vec<Place>,
    total: usize,
}

/// Why parameters have no layout, or tensors do not fit one.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LayoutError {
    /// There are more elements than can be counted.
    #[error("parameter {name:?} has shape {shape:?}, which makes too many elements")]
    TooLarge {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A parameter cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A tensor that does not fit.
    #[error("parameter {name:?} has shape {found:?}, expected {wanted:?}")]
    Parameter {
        /// The parameter.
        name: String,
        /// The shape given, if it was given.
        found: Option<Vec<usize>>,
        /// The shape of the layout.
        wanted: Vec<usize>,
    },
}

impl Layout {
    /// The layout of parameters with these names and shapes, in this order.
    ///
    /// # Errors
    /// When they have more elements than can be counted.
    pub fn new(parameters: Vec<(String, Vec<usize>)>) -> Result<Layout, LayoutError> {
        let (mut places, mut total) = (Vec::new(), 0_usize);
        for (name, shape) in parameters {
            let elements = shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
            let end = elements.and_then(|elements| total.checked_add(elements));
            let end = end.ok_or_else(|| LayoutError::TooLarge {
                name: name.clone(),
                shape: shape.clone(),
            })?;
            places.push(Place {
                name,
                offset: total,
                shape,
            });
            total = end;
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

    /// One flat f32 tensor `[total]` of the parameters in `tensors`, which may have any float type.
    ///
    /// # Errors
    /// When a parameter is missing, has another shape or cannot be read.
    pub fn join(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Tensor, LayoutError> {
        let mut flat = Vec::new();
        for place in &self.places {
            let found = tensors.get(&place.name);
            match found.filter(|tensor| tensor.shape() == place.shape) {
                Some(tensor) => flat.extend_from_slice(tensor.fetched()?.cast(DType::F32).bytes()),
                None => {
                    return Err(LayoutError::Parameter {
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
    pub fn cut(&self, flat: &Tensor) -> Result<BTreeMap<String, Tensor>, LayoutError> {
        if flat.dtype() != DType::F32 || flat.shape() != [self.total] {
            return Err(LayoutError::Parameter {
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
