//! The operator [`ReduceMax`].

use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::reduction::{fold, infer};
use crate::ops::reverse::{Gradients, Reverse};
use crate::ops::shape::numeric;
use crate::ops::{Class, Equal, Operator, Select, Violation};
use crate::value::array::{Array, Fault};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// `result = max x` over `axes`; NaN where any element is NaN. The maximum of nothing is minus
/// infinity, or the least integer of the type.
///
/// # Operands
/// `x`: any shape.
///
/// # Result
/// The element type of `x`; extents of `axes` are 1, or removed without `keep`.
///
/// # Constraints
/// * C1: `axes` are sorted and distinct axes of `x`.
/// * C2: `x` is numeric.
///
/// # Gradient
/// `dx = dr` where `x` is the maximum, divided by the number of equal maxima; 0 elsewhere.
///
/// # Source
/// ONNX `ReduceMax`; PyTorch `amax`, also for the gradient; empty `axes` change nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceMax {
    /// The axes that are folded.
    pub axes: Vec<usize>,
    /// Whether they remain, with extent 1.
    pub keep: bool,
}

attributes!(ReduceMax { axes, keep });

impl Operator for ReduceMax {
    const NAME: &'static str = "reduce_max";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Row;
    const TOLERANCE: f64 = 0.0;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        let ty = infer(operands[0], &self.axes, self.keep)?;
        numeric("C2", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        let shape = &operands[0].shape;
        match &operands[0].values {
            Values::Float(x) => {
                let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
                let step = |a: f64, b: f64| if a.is_nan() { a } else { larger(a, b) };
                let maxima = fold(shape, &self.axes, x, f64::NEG_INFINITY, step);
                Ok(Values::Float(maxima))
            }
            Values::Int(x) => {
                let least = match result.dtype {
                    DType::I8 => i64::from(i8::MIN),
                    DType::I32 => i64::from(i32::MIN),
                    DType::I64 => i64::MIN,
                    DType::Bool
                    | DType::U8
                    | DType::F16
                    | DType::BF16
                    | DType::F32
                    | DType::F64 => 0,
                };
                Ok(Values::Int(fold(shape, &self.axes, x, least, i64::max)))
            }
            Values::Bool(_) => panic!("inferred as a numeric operand"),
        }
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let x = at.operand(0);
            let shape = at.shape(x);
            let mut kept = shape.clone();
            self.axes.iter().for_each(|&axis| kept[axis] = 1);
            let (most, dr) = (
                at.reshape(at.result, &kept)?,
                at.reshape(at.cotangent, &kept)?,
            );
            let reached = at.push(Equal, &[x, most])?;
            let (zero, one) = (at.number(0.0, x)?, at.number(1.0, x)?);
            let ones = at.push(Select, &[reached, one, zero])?;
            let count = at.sum(ones, &self.axes, true)?;
            let share = at.div(dr, count)?;
            at.mul(ones, share)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dtype: DType, shape: &[usize], values: Values, wanted: &str) {
        let x = Array {
            shape: shape.to_vec(),
            values,
        };
        let max = ReduceMax {
            axes: vec![1],
            keep: false,
        };
        let result = Extents {
            dtype,
            shape: vec![shape[0]],
        };
        assert_eq!(format!("{:?}", max.eval(&[&x], &result)), wanted);
    }

    #[test]
    fn not_a_number_wins_and_nothing_has_a_least_maximum() {
        let nan = f64::NAN;
        let floats = Values::Float(vec![1.0, nan, 2.0, -3.0, -2.0, -5.0]);
        check(DType::F32, &[2, 3], floats, "Ok(Float([NaN, -2.0]))");
        check(
            DType::F32,
            &[1, 0],
            Values::Float(vec![]),
            "Ok(Float([-inf]))",
        );
        check(DType::I8, &[1, 0], Values::Int(vec![]), "Ok(Int([-128]))");
        check(DType::U8, &[1, 0], Values::Int(vec![]), "Ok(Int([0]))");
    }
}
