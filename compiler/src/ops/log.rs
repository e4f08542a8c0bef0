//! The operator [`Log`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::float;
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = ln x`: minus infinity at 0, not a number below.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` is floating-point.
///
/// # Gradient
/// `dx = dr / x`.
///
/// # Source
/// ONNX `Log`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log;

attributes!(Log {});

impl Operator for Log {
    const NAME: &'static str = "log";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], f64::ln))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| at.div(at.cotangent, at.operand(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn constraints() {
        for (dtype, wanted) in [
            (DType::F16, None),
            (DType::F64, None),
            (DType::I32, Some("C1")),
        ] {
            let found = Log.infer(&[&TensorType::new(dtype, [2])]);
            assert_eq!(found.err().map(|violation| violation.constraint), wanted);
        }
    }
}
