//! The operator [`Trilu`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::pick;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result[…, i, j] = x[…, i, j]` where `j − i ≥ diagonal` (upper) or `j − i ≤ diagonal` (lower);
/// 0 or false elsewhere.
///
/// # Operands
/// `x`: two axes or more.
///
/// # Result
/// The type of `x`.
///
/// # Constraints
/// * C1: `x` has at least two axes.
///
/// # Gradient
/// `dx = trilu(dr)` with the same attributes.
///
/// # Source
/// ONNX `Trilu`; PyTorch `triu`, `tril`.
#[derive(Debug, Clone, PartialEq)]
pub struct Trilu {
    /// Whether the triangle above the diagonal is kept.
    pub upper: bool,
    /// The diagonal where it begins: 0 is the main one, positive ones lie above.
    pub diagonal: i64,
}

attributes!(Trilu { upper, diagonal });

impl Operator for Trilu {
    const NAME: &'static str = "trilu";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Plain;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let holds = operands[0].rank() >= 2;
        Violation::unless(holds, "C1", operands[0], "at least two axes")?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let last = result.shape.len() - 1;
        let (rows, columns) = (result.shape[last - 1], result.shape[last]);
        let kept = |position: usize| {
            let (row, column) = (position / columns % rows, position % columns);
            let above = column as i64 - row as i64;
            match self.upper {
                true => above >= self.diagonal,
                false => above <= self.diagonal,
            }
        };
        let source = |position: usize| kept(position).then_some((0, position));
        let sources: Vec<_> = (0..result.elements()).map(source).collect();
        Ok(pick(operands, &sources))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| at.push(self.clone(), &[at.cotangent]))
    }

    fn flops(&self, _operands: &[TensorType], _result: &TensorType) -> Dim {
        Dim::from(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::dtype::DType;

    #[test]
    fn triangles() {
        let x = Array {
            shape: vec![2, 3],
            values: Values::Int(vec![1, 2, 3, 4, 5, 6]),
        };
        let result = Extents {
            dtype: DType::I64,
            shape: vec![2, 3],
        };
        let cases = [
            (true, 0, vec![1, 2, 3, 0, 5, 6]),
            (true, 2, vec![0, 0, 3, 0, 0, 0]),
            (false, -1, vec![0, 0, 0, 4, 0, 0]),
            (true, i64::MIN, vec![1, 2, 3, 4, 5, 6]),
            (false, i64::MIN, vec![0; 6]),
            (true, i64::MAX, vec![0; 6]),
        ];
        for (upper, diagonal, wanted) in cases {
            let found = Trilu { upper, diagonal }.eval(&[&x], &result);
            assert_eq!(found, Ok(Values::Int(wanted)), "{upper} {diagonal}");
        }
    }
}
