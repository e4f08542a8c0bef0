//! Values of a function, their types, and what feeds the parameters.
//!
//! Takes element types and extents, returns types that print as in the text form. Nothing here
//! knows an operator.

use std::fmt;

use crate::value::dim::{Bindings, Dim};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Tensor;

/// A value of one function; prints as in the text form, `%7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// The type of a value: element type and extents, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The extents, outermost first; no extents for a scalar.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type with extents given as anything that is a [`Dim`].
    pub fn new<D: Into<Dim>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> TensorType {
        TensorType {
            dtype,
            shape: shape.into_iter().map(Into::into).collect(),
        }
    }

    /// A scalar type.
    pub fn scalar(dtype: DType) -> TensorType {
        TensorType {
            dtype,
            shape: Vec::new(),
        }
    }

    /// The type of a concrete tensor.
    pub fn of(tensor: &Tensor) -> TensorType {
        TensorType::new(tensor.dtype(), tensor.shape().iter().copied())
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn elements(&self) -> Dim {
        self.shape
            .iter()
            .fold(Dim::from(1), |product, dim| product.mul(dim))
    }

    /// The extents, if all are known and not negative.
    pub fn extents(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::extent).collect()
    }

    /// The same type with bound symbols replaced.
    pub fn bind(&self, bindings: &Bindings) -> TensorType {
        TensorType {
            dtype: self.dtype,
            shape: self.shape.iter().map(|dim| dim.bind(bindings)).collect(),
        }
    }
}

impl From<&Extents> for TensorType {
    fn from(extents: &Extents) -> TensorType {
        TensorType::new(extents.dtype, extents.shape.iter().copied())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (axis, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if axis > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// What a parameter of a function is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Given anew at each call.
    Input,
    /// Given once, when the program is loaded; stored under the parameter's name.
    Weight,
    /// Given once, when the program is loaded; after each run the result of the same name takes
    /// its place, which the caller does not get.
    State,
}

impl Role {
    /// The word for it.
    pub(super) fn what(self) -> &'static str {
        match self {
            Role::Input => "input",
            Role::Weight => "weight",
            Role::State => "state",
        }
    }

    /// The role that a word stands for.
    pub(crate) fn from_word(word: &str) -> Option<Role> {
        let mut roles = [Role::Input, Role::Weight, Role::State].into_iter();
        roles.find(|role| role.what() == word)
    }

    /// Among whose names its own are distinct: states are given together with weights.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Role::Input => "input",
            Role::Weight | Role::State => "weight",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Param {
    /// The name by which users, files and other functions know it.
    pub name: String,
    /// What it is fed with.
    pub role: Role,
}
