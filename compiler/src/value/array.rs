//! Arrays of the oracle: concrete tensors in 64-bit arithmetic, and what their data can lack.
//!
//! Takes tensors, returns their elements as `f64`, `i64` or `bool`. Nothing here knows an
//! operator.

use thiserror::Error;

use super::dtype::DType;
use super::tensor::{Tensor, Values};

/// A concrete tensor in 64-bit arithmetic, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

impl Array {
    /// The elements of a floating-point operand.
    ///
    /// # Panics
    /// When the elements are not floats: the operator's constraints exclude it.
    pub fn floats(&self) -> &[f64] {
        match &self.values {
            Values::Float(values) => values,
            Values::Int(_) | Values::Bool(_) => panic!("inferred as a float operand"),
        }
    }

    /// The elements of an integer operand.
    ///
    /// # Panics
    /// When the elements are not integers: the operator's constraints exclude it.
    pub fn ints(&self) -> &[i64] {
        match &self.values {
            Values::Int(values) => values,
            Values::Float(_) | Values::Bool(_) => panic!("inferred as an integer operand"),
        }
    }

    /// The elements of an operand of truth values.
    ///
    /// # Panics
    /// When the elements are not truth values: the operator's constraints exclude it.
    pub fn truths(&self) -> &[bool] {
        match &self.values {
            Values::Bool(values) => values,
            Values::Float(_) | Values::Int(_) => panic!("inferred as a bool operand"),
        }
    }
}

impl From<&Tensor> for Array {
    fn from(tensor: &Tensor) -> Array {
        Array {
            shape: tensor.shape().to_vec(),
            values: tensor.values(),
        }
    }
}

/// Data outside of an operator's domain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// An index that points nowhere.
    #[error("index {index} is outside of an axis of {extent}")]
    Index {
        /// The index found.
        index: i64,
        /// The extent of the axis.
        extent: usize,
    },
    /// A size that no symbol's binding has made a number.
    #[error("the size {dim} is not known")]
    Unbound {
        /// The size.
        dim: String,
    },
    /// A function that is not here.
    #[error("function {func:?} is called, wanted its body in the call's place")]
    Call {
        /// The function.
        func: String,
    },
    /// An integer division by zero.
    #[error("an integer is divided by zero")]
    DivisionByZero,
}

/// How results of operators are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Rounded to their element type, as backends store them.
    Typed,
    /// Floats stay in f64: for gradients by central differences and error budgets.
    Exact,
}

/// Values as `precision` keeps them.
pub(crate) fn round(values: Values, dtype: DType, precision: Precision) -> Values {
    match (precision, &values) {
        (Precision::Exact, Values::Float(_)) | (_, Values::Bool(_)) => values,
        (_, _) if dtype == DType::F64 || dtype == DType::I64 => values,
        (_, _) => Tensor::from_values(dtype, &[values.len()], &values).values(),
    }
}
