//! Attributes of operators in one form, for the text form, hashing and binding of sizes.
//!
//! Takes an operator's fields, gives names and plain values and back. The macro [`attributes!`]
//! writes both directions from the list of the fields.

use thiserror::Error;

use crate::value::dim::{Bindings, Dim};
use crate::value::dtype::DType;
use crate::value::tensor::Tensor;

/// The value of one attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// One of the names that the operator declares.
    Name(String),
    /// An element type.
    DType(DType),
    /// An extent, known or symbolic.
    Dim(Dim),
    /// Extents, known or symbolic.
    Dims(Vec<Dim>),
    /// A tensor.
    Tensor(Tensor),
}

impl Attribute {
    /// The same attribute with bound symbols replaced.
    pub fn bind(&self, bindings: &Bindings) -> Attribute {
        match self {
            Attribute::Dim(dim) => Attribute::Dim(dim.bind(bindings)),
            Attribute::Dims(dims) => {
                Attribute::Dims(dims.iter().map(|dim| dim.bind(bindings)).collect())
            }
            Attribute::Int(_)
            | Attribute::Ints(_)
            | Attribute::Float(_)
            | Attribute::Bool(_)
            | Attribute::Name(_)
            | Attribute::DType(_)
            | Attribute::Tensor(_) => self.clone(),
        }
    }
}

/// Why attributes are not those of an operator.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AttributeError {
    /// An attribute is not there.
    #[error("attribute {name:?} is missing")]
    Missing {
        /// The attribute.
        name: &'static str,
    },
    /// An attribute has another kind of value, or one out of range.
    #[error("attribute {name:?} has the wrong kind of value")]
    Kind {
        /// The attribute.
        name: &'static str,
    },
    /// An attribute that the operator does not have, or one given twice.
    #[error("attribute {name:?} is unknown or given twice")]
    Unknown {
        /// The attribute.
        name: String,
    },
}

/// A type that can be the field of an operator.
pub trait Field: Sized {
    /// The field's value as an attribute.
    fn to_attribute(&self) -> Attribute;

    /// The field's value from an attribute of the right kind.
    fn from_attribute(attribute: &Attribute) -> Option<Self>;
}

/// An operator's fields, by name. Written by [`attributes!`].
pub trait Attributes: Sized {
    /// The fields in the order of their declaration.
    fn attributes(&self) -> Vec<(&'static str, Attribute)>;

    /// The operator with these fields.
    ///
    /// # Errors
    /// When a field is missing, of the wrong kind, unknown or given twice.
    fn from_attributes(attributes: &[(String, Attribute)]) -> Result<Self, AttributeError>;
}

/// Implements [`Attributes`] for an operator from the list of its fields.
macro_rules! attributes {
    ($op:ident { $($field:ident),* $(,)? }) => {
        impl $crate::ops::Attributes for $op {
            fn attributes(&self) -> Vec<(&'static str, $crate::ops::Attribute)> {
                vec![$((stringify!($field), $crate::ops::Field::to_attribute(&self.$field))),*]
            }

            fn from_attributes(
                attributes: &[(String, $crate::ops::Attribute)],
            ) -> Result<Self, $crate::ops::AttributeError> {
                $crate::ops::attribute::check_names(attributes, &[$(stringify!($field)),*])?;
                Ok($op {
                    $($field: $crate::ops::attribute::field(attributes, stringify!($field))?,)*
                })
            }
        }
    };
}
pub(crate) use attributes;

/// Implements [`Field`] for an enum whose variants are names.
macro_rules! named_field {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $crate::ops::Field for $name {
            fn to_attribute(&self) -> $crate::ops::Attribute {
                let text = match self { $($name::$variant => $text),* };
                $crate::ops::Attribute::Name(text.to_owned())
            }

            fn from_attribute(attribute: &$crate::ops::Attribute) -> Option<Self> {
                match attribute {
                    $($crate::ops::Attribute::Name(text) if text == $text => {
                        Some($name::$variant)
                    })*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use named_field;

/// Refuses attributes that are not among `names`, or come twice.
pub(crate) fn check_names(
    attributes: &[(String, Attribute)],
    names: &[&str],
) -> Result<(), AttributeError> {
    for (position, (name, _)) in attributes.iter().enumerate() {
        let twice = attributes[..position]
            .iter()
            .any(|(other, _)| other == name);
        if twice || !names.contains(&name.as_str()) {
            return Err(AttributeError::Unknown { name: name.clone() });
        }
    }
    Ok(())
}

/// The field `name` out of a list of attributes.
pub(crate) fn field<F: Field>(
    attributes: &[(String, Attribute)],
    name: &'static str,
) -> Result<F, AttributeError> {
    let (_, attribute) = attributes
        .iter()
        .find(|(other, _)| other == name)
        .ok_or(AttributeError::Missing { name })?;
    F::from_attribute(attribute).ok_or(AttributeError::Kind { name })
}

macro_rules! field_kind {
    ($ty:ty, $variant:ident) => {
        impl Field for $ty {
            fn to_attribute(&self) -> Attribute {
                Attribute::$variant(self.clone())
            }

            fn from_attribute(attribute: &Attribute) -> Option<Self> {
                match attribute {
                    Attribute::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
    };
}

field_kind!(i64, Int);
field_kind!(Vec<i64>, Ints);
field_kind!(f64, Float);
field_kind!(bool, Bool);
field_kind!(DType, DType);
field_kind!(Tensor, Tensor);

impl Field for String {
    fn to_attribute(&self) -> Attribute {
        Attribute::Name(self.clone())
    }

    fn from_attribute(attribute: &Attribute) -> Option<Self> {
        match attribute {
            Attribute::Name(name) => Some(name.clone()),
            _ => None,
        }
    }
}

/// An integer is an extent that is known.
impl Field for Dim {
    fn to_attribute(&self) -> Attribute {
        Attribute::Dim(self.clone())
    }

    fn from_attribute(attribute: &Attribute) -> Option<Self> {
        match attribute {
            Attribute::Dim(dim) => Some(dim.clone()),
            Attribute::Int(value) => Some(Dim::from(*value)),
            _ => None,
        }
    }
}

/// Integers are extents that are known.
impl Field for Vec<Dim> {
    fn to_attribute(&self) -> Attribute {
        Attribute::Dims(self.clone())
    }

    fn from_attribute(attribute: &Attribute) -> Option<Self> {
        match attribute {
            Attribute::Dims(dims) => Some(dims.clone()),
            Attribute::Ints(values) => Some(values.iter().copied().map(Dim::from).collect()),
            _ => None,
        }
    }
}

impl Field for usize {
    fn to_attribute(&self) -> Attribute {
        Attribute::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }

    fn from_attribute(attribute: &Attribute) -> Option<Self> {
        i64::from_attribute(attribute).and_then(|value| usize::try_from(value).ok())
    }
}

impl Field for Vec<usize> {
    fn to_attribute(&self) -> Attribute {
        let ints = self.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX));
        Attribute::Ints(ints.collect())
    }

    fn from_attribute(attribute: &Attribute) -> Option<Self> {
        let ints = Vec::<i64>::from_attribute(attribute)?;
        ints.into_iter()
            .map(|value| usize::try_from(value).ok())
            .collect()
    }
}
