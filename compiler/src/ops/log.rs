//! The operator [`Log`].

use crate::ops::pointwise::float_function;

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

float_function!(Log, "log", 1e-6, |at| at
    .unary(|at| at.div(at.cotangent, at.operand(0))));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::TensorType;
    use crate::ops::Operator;
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
