//! The operator [`Iota`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[i] = i`.
///
/// # Operands
/// None.
///
/// # Result
/// `[length]` of `dtype`; values beyond the type's range wrap or round as a cast does.
///
/// # Constraints
/// * C1: `dtype` is numeric.
/// * C2: `length` is not negative where known.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `Range` is `iota · delta + start`.
#[derive(Debug, Clone, PartialEq)]
pub struct Iota {
    /// The number of elements.
    pub length: Dim,
    /// Their type.
    pub dtype: DType,
}

attributes!(Iota { length, dtype });

impl Operator for Iota {
    const NAME: &'static str = "iota";
    const OPERANDS: (usize, usize) = (0, 0);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, _operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = TensorType::new(self.dtype, [self.length.clone()]);
        numeric("C1", &ty)?;
        let negative = self.length.known().is_some_and(|length| length < 0);
        let found = format_args!("length {}", self.length);
        Violation::unless(!negative, "C2", found, "at least 0")?;
        Ok(ty)
    }

    fn eval(&self, _operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let count = result.elements() as i64;
        match self.dtype.is_float() {
            true => Ok(Values::Float((0..count).map(|i| i as f64).collect())),
            false => Ok(Values::Int((0..count).collect())),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }

    fn flops(&self, _operands: &[TensorType], _result: &TensorType) -> Dim {
        Dim::from(0)
    }
}
