//! The operator [`Pow`].

use crate::eval::{Array, Fault};
use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::{arithmetic, infer_binary};
use crate::ops::shape::numeric;
use crate::ops::{Class, Extents, Operator, Violation};
use crate::tensor::Values;

/// # Meaning
/// `result = a^b`, elementwise. Powers of integers wrap; those with a negative exponent are rounded
/// towards zero, and a fault for the base 0.
///
/// # Operands
/// `a`, `b`: any shapes that broadcast.
///
/// # Result
/// The common element type and the broadcast shape.
///
/// # Constraints
/// * C1: both operands have one element type.
/// * C2: the shapes broadcast by NumPy's rule.
/// * C3: the element type is numeric.
///
/// # Gradient
/// `da = dr · b · a^{b − 1}`, `db = dr · r · ln(a)` for floats, each summed over the axes
/// along which it was stretched.
///
/// # Source
/// ONNX `Pow` with exponents of the base's type; NumPy broadcasting.
#[derive(Debug, Clone, PartialEq)]
pub struct Pow;

attributes!(Pow {});

impl Operator for Pow {
    const NAME: &'static str = "pow";
    const OPERANDS: (usize, usize) = (2, 2);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 1e-5;

    fn infer(&self, operands: &[TensorType]) -> Result<TensorType, Violation> {
        let ty = infer_binary(operands)?;
        numeric("C3", &ty)?;
        Ok(ty)
    }

    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault> {
        arithmetic(operands, result, f64::powf, integer_power)
    }
}

/// `base` to the power `exponent` modulo 2^64, by squaring.
fn integer_power(base: i64, exponent: i64) -> Result<i64, Fault> {
    let odd = exponent & 1 == 1;
    let Ok(mut rest) = u64::try_from(exponent) else {
        return match base {
            0 => Err(Fault::DivisionByZero),
            1 => Ok(1),
            -1 => Ok(if odd { -1 } else { 1 }),
            _ => Ok(0),
        };
    };
    let (mut power, mut square) = (1i64, base);
    while rest > 0 {
        if rest & 1 == 1 {
            power = power.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    Ok(power)
}
