//! The operator [`Reshape`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result` has the elements of `x` in row-major order under another shape.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x` and the shape `shape`.
///
/// # Constraints
/// * C1: `shape` has as many elements as `x`.
///
/// # Gradient
/// `dx = reshape(dr)` to the shape of `x`.
///
/// # Source
/// ONNX `Reshape`, with `0` and `-1` resolved by the importer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshape {
    /// The extents of the result.
    pub shape: Vec<Dim>,
}

attributes!(Reshape { shape });

impl Operator for Reshape {
    const NAME: &'static str = "reshape";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Movement;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = TensorType::new(operands[0].dtype, self.shape.clone());
        let (own, wanted) = (operands[0].elements(), ty.elements());
        let holds = own == wanted;
        let found = format_args!("{own} elements in {}", operands[0]);
        let wanted = format_args!("{wanted} elements for {ty}");
        Violation::unless(holds, "C1", found, wanted)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(operands[0].values.clone())
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let shape = at.shape(at.operand(0));
            at.reshape(at.cotangent, &shape)
        })
    }
}
