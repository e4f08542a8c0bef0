//! The operator [`Argmax`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::movement::around;
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{axis, numeric};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = argmax x` along `axis`: the index of the first maximum, or of the last one with
/// `last`; NaN counts as the largest.
///
/// # Operands
/// `x`: one axis or more.
///
/// # Result
/// i64; the shape of `x` without `axis`.
///
/// # Constraints
/// * C1: `axis` is an axis of `x`.
/// * C2: `x` is numeric.
/// * C3: the extent of `axis` is not 0.
///
/// # Gradient
/// None flows.
///
/// # Source
/// ONNX `ArgMax` without `keepdims`; PyTorch `argmax` for NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Argmax {
    /// The axis that is searched.
    pub axis: usize,
    /// Whether the last of equal maxima is taken.
    pub last: bool,
}

attributes!(Argmax { axis, last });

impl Operator for Argmax {
    const NAME: &'static str = "argmax";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let x = &operands[0];
        axis("C1", x, self.axis)?;
        numeric("C2", x)?;
        let empty = x.shape[self.axis].is(0);
        Violation::unless(!empty, "C3", x, "an axis with elements")?;
        let mut shape = x.shape.clone();
        shape.remove(self.axis);
        Ok(TensorType::new(DType::I64, shape))
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        let found = match &operands[0].values {
            Values::Float(x) => {
                let larger = |a: f64, b: f64| a > b || (a.is_nan() && !b.is_nan());
                let equal = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
                self.search(shape, |i, j| larger(x[i], x[j]), |i, j| equal(x[i], x[j]))
            }
            Values::Int(x) => self.search(shape, |i, j| x[i] > x[j], |i, j| x[i] == x[j]),
            Values::Bool(_) => panic!("inferred as a numeric operand"),
        };
        Ok(Values::Int(found))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.none()
    }
}

impl Argmax {
    /// The index of the maximum of each row, from comparisons of elements by position.
    fn search(
        &self,
        shape: &[usize],
        larger: impl Fn(usize, usize) -> bool,
        equal: impl Fn(usize, usize) -> bool,
    ) -> Vec<i64> {
        let (outer, inner) = around(shape, self.axis);
        let extent = shape[self.axis];
        let rows = (0..outer).flat_map(|block| (0..inner).map(move |i| (block, i)));
        let best = |(block, i): (usize, usize)| {
            let at = |index: usize| (block * extent + index) * inner + i;
            let better =
                |a: usize, b: usize| larger(at(a), at(b)) || (self.last && equal(at(a), at(b)));
            let best = (1..extent).fold(0, |best, index| match better(index, best) {
                true => index,
                false => best,
            });
            best as i64
        };
        rows.map(best).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_not_a_number() {
        let nan = f64::NAN;
        let cases = [
            (vec![1.0, 3.0, 3.0], 1, 2),
            (vec![f64::NEG_INFINITY; 3], 0, 2),
            (vec![1.0, nan, nan], 1, 2),
            (vec![nan, f64::INFINITY, 0.0], 0, 0),
        ];
        for (values, first, last) in cases {
            let x = Array {
                shape: vec![3],
                values: Values::Float(values),
            };
            let result = Extents {
                dtype: DType::I64,
                shape: vec![],
            };
            let index = |last: bool| Argmax { axis: 0, last }.eval(&[&x], &result);
            assert_eq!(index(false), Ok(Values::Int(vec![first])));
            assert_eq!(index(true), Ok(Values::Int(vec![last])));
        }
    }
}
