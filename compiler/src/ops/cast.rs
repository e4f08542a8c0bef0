//! The operator [`Cast`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::elementary::{Elementary, Pointwise};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::{Tensor, Values};

/// # Meaning
/// `result = x` in another element type. Floats become integers by truncation, saturating at the
/// least and the largest, with NaN becoming 0; integers become narrower ones by wrapping;
/// everything but zero is true; true is 1.
///
/// # Operands
/// `x`: any type.
///
/// # Result
/// The element type `dtype` and the shape of `x`.
///
/// # Constraints
/// None.
///
/// # Gradient
/// `dx = cast(dr)` between floating-point types; none flows otherwise.
///
/// # Source
/// ONNX `Cast`, which leaves floats beyond the integers' range undefined.
#[derive(Debug, Clone, PartialEq)]
pub struct Cast {
    /// The element type of the result.
    pub dtype: DType,
}

attributes!(Cast { dtype });

impl Operator for Cast {
    const NAME: &'static str = "cast";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        Ok(TensorType::new(self.dtype, operands[0].shape.clone()))
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let values = &operands[0].values;
        Ok(match (values, self.dtype.is_float()) {
            // Rounding is left to the evaluator, which may be asked for exact floats.
            (Values::Float(_), true) => values.clone(),
            (_, _) => Tensor::from_values(self.dtype, &result.shape, values).values(),
        })
    }

    fn pointwise(&self) -> Option<Pointwise> {
        let function = match self.dtype {
            DType::F32 => Elementary::NearestF32,
            DType::F16 => Elementary::NearestF16,
            DType::BF16 => Elementary::NearestBf16,
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F64 => {
                return None;
            }
        };
        Some(Pointwise::Unary(function))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let dtype = at.ty(at.operand(0)).dtype;
            at.cast(at.cotangent, dtype)
        })
    }
}
