//! The operator [`Pow`].

use crate::ops::pointwise::arithmetic_function;
use crate::ops::{Equal, Log, Select};
use crate::value::array::Fault;

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

arithmetic_function!(Pow, "pow", 1e-5, integer_power, |at| {
    let (a, b, dr) = (at.operand(0), at.operand(1), at.cotangent);
    let da = at.when(0, |at| {
        // Where the exponent is 0 the power is 1 whatever the base, and its slope 0.
        let (zero, one) = (at.number(0.0, b)?, at.number(1.0, b)?);
        let flat = at.push(Equal, &[b, zero])?;
        let less = at.sub(b, one)?;
        let power = at.push(Pow, &[a, less])?;
        let slope = at.mul(b, power)?;
        let slope = at.push(Select, &[flat, zero, slope])?;
        at.product_to(dr, slope, a)
    })?;
    let db = at.when(1, |at| {
        let zero = at.number(0.0, a)?;
        let flat = at.push(Equal, &[at.result, zero])?;
        let logarithm = at.push(Log, &[a])?;
        let slope = at.mul(at.result, logarithm)?;
        let slope = at.push(Select, &[flat, zero, slope])?;
        at.product_to(dr, slope, b)
    })?;
    Ok(vec![da, db])
});

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
