//! The operator [`Dot`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reduction::{fold, infer};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::{exact_shape, one_float};
use crate::ops::{Class, Operator, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = Σ a · b` over `axes`; nothing sums to 0.
///
/// # Operands
/// `a` and `b`: any shape.
///
/// # Result
/// The element type of `a`; extents of `axes` are 1, or removed without `keep`.
///
/// # Constraints
/// * C1: `axes` are sorted and distinct axes of `a`.
/// * C2: both operands have one floating-point element type.
/// * C3: `b` has the shape of `a`.
///
/// # Gradient
/// `da = dr · b` and `db = dr · a`, with `dr` stretched over `axes`.
///
/// # Source
/// [`ReduceSum`](crate::ops::ReduceSum) of a product: ONNX `ReduceSum` and `Mul`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    /// The axes that are summed over.
    pub axes: Vec<usize>,
    /// Whether they remain, with extent 1.
    pub keep: bool,
}

attributes!(Dot { axes, keep });

impl Operator for Dot {
    const NAME: &'static str = "dot";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer(operands[0], &self.axes, self.keep)?;
        one_float("C2", operands)?;
        exact_shape("C3", operands[1], &operands[0].shape)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        let [a, b] = [operands[0], operands[1]].map(Array::floats);
        let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * b).collect();
        let shape = &operands[0].shape;
        let sums = fold(shape, &self.axes, &products, 0.0, |sum, x| sum + x);
        Ok(Values::Float(sums))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        let (a, b) = (at.operand(0), at.operand(1));
        let mut kept = at.shape(a);
        self.axes.iter().for_each(|&axis| kept[axis] = 1);
        let dr = at.reshape(at.cotangent, &kept)?;
        let da = at.when(0, |at| at.mul(b, dr))?;
        let db = at.when(1, |at| at.mul(a, dr))?;
        Ok(vec![da, db])
    }

    fn flops(&self, operands: &[TensorType], _result: &TensorType) -> Dim {
        operands[0].elements().mul(&Dim::from(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::value::dtype::DType;

    #[test]
    fn products_add_up() {
        let array = |values: [f64; 6]| Array {
            shape: vec![2, 3],
            values: Values::Float(values.to_vec()),
        };
        let a = array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = array([1.0, 0.0, -1.0, 0.5, 2.0, 1.0]);
        let cases: &[(&[usize], &[f64])] = &[
            (&[], &[1.0, 0.0, -3.0, 2.0, 10.0, 6.0]),
            (&[0], &[3.0, 10.0, 3.0]),
            (&[1], &[-2.0, 18.0]),
            (&[0, 1], &[16.0]),
        ];
        for (axes, wanted) in cases {
            let axes = axes.to_vec();
            let result = Extents {
                dtype: DType::F32,
                shape: vec![wanted.len()],
            };
            let found = Dot { axes, keep: false }.eval(&[&a, &b], &result);
            assert_eq!(found, Ok(Values::Float(wanted.to_vec())));
        }
    }

    #[test]
    fn constraints() {
        let ty = |dtype, shape: &[usize]| TensorType::new(dtype, shape.iter().copied());
        let (f32, f16, i32) = (DType::F32, DType::F16, DType::I32);
        let own = ty(f32, &[2, 1, 3]);
        let cases: &[(&[usize], &TensorType, TensorType, Option<&str>)] = &[
            (&[0, 2], &own, own.clone(), None),
            (&[], &ty(f16, &[2, 1]), ty(f16, &[2, 1]), None),
            (&[3], &own, own.clone(), Some("C1")),
            (&[1, 0], &own, own.clone(), Some("C1")),
            (&[1], &ty(i32, &[2, 1]), ty(i32, &[2, 1]), Some("C2")),
            (&[1], &own, ty(f16, &[2, 1, 3]), Some("C2")),
            (&[1], &own, ty(f32, &[2, 3]), Some("C3")),
            (&[1], &own, ty(f32, &[1, 1, 3]), Some("C3")),
        ];
        for (axes, a, b, wanted) in cases {
            let axes = axes.to_vec();
            let operands = [(*a).clone(), b.clone()];
            let found = Op::from(Dot { axes, keep: true }).infer(&operands);
            assert_eq!(found.err().map(|v| v.constraint), *wanted, "{operands:?}");
        }
    }
}
