//! The operator [`Erf`].

use crate::eval::{Array, Fault};
use crate::graph::TensorType;
use crate::ops::attribute::attributes;
use crate::ops::pointwise::map_floats;
use crate::ops::shape::float;
use crate::ops::{Extents, Operator, Violation};
use crate::tensor::Values;

/// # Meaning
/// `result = erf(x) = 2/√π · ∫₀ˣ e^{−t²} dt`.
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
/// `dx = dr · 2/√π · e^{−x²}`.
///
/// # Source
/// ONNX `Erf`; DLMF 7.2.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Erf;

attributes!(Erf {});

impl Operator for Erf {
    const NAME: &'static str = "erf";
    const OPERANDS: (usize, usize) = (1, 1);
    const TOLERANCE: f64 = 2e-6;

    fn infer(&self, operands: &[TensorType]) -> Result<TensorType, Violation> {
        float("C1", &operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], erf))
    }
}

/// Terms of the series: below 3 the last ones vanish beside the sum.
const SERIES_TERMS: u32 = 100;

/// Depth of the continued fraction: from 2 on it has settled to the last digit.
const FRACTION_DEPTH: u32 = 100;

/// The error function: the series of positive terms of DLMF 7.6.2, or 1 less its complement.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() >= 3.0 {
        return (1.0 - erfc_tail(x.abs())).copysign(x);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..SERIES_TERMS {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// `1 − erf(x)`, with all its digits where that is small.
pub(crate) fn erfc(x: f64) -> f64 {
    if x >= 2.0 {
        return erfc_tail(x);
    }
    1.0 - erf(x)
}

/// The continued fraction of DLMF 7.9.2, for `x` of 2 and more.
fn erfc_tail(x: f64) -> f64 {
    let depths = (1..=FRACTION_DEPTH).rev();
    let fraction = depths.fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    std::f64::consts::FRAC_2_SQRT_PI / 2.0 * (-x * x).exp() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_agree_with_another_evaluation() {
        // Computed with mpmath at 30 digits.
        let rows = [
            (-2.5, -0.999593047982555, 1.999593047982555),
            (-1.0, -0.8427007929497149, 1.8427007929497148),
            (1e-10, 1.1283791670955126e-10, 0.999999999887162),
            (0.5, 0.5204998778130465, 0.4795001221869535),
            (1.5, 0.9661051464753108, 0.033894853524689274),
            (1.9999, 0.9953201979070294, 0.004679802092970608),
            (2.0, 0.9953222650189527, 0.004677734981047266),
            (2.9999, 0.9999778955735178, 2.210442648216091e-05),
            (3.0, 0.9999779095030014, 2.209049699858544e-05),
            (6.0, 1.0, 2.1519736712498913e-17),
            (12.0, 1.0, 1.3562611692059042e-64),
        ];
        for (x, wanted, complement) in rows {
            let (found, rest) = (erf(x), erfc(x));
            assert!((found - wanted).abs() <= 2e-15, "erf({x}) = {found}");
            assert!(
                (rest / complement - 1.0).abs() <= 1e-12,
                "erfc({x}) = {rest}"
            );
        }
        assert!(erf(f64::NAN).is_nan() && erfc(f64::NAN).is_nan());
        assert_eq!((erf(f64::NEG_INFINITY), erfc(f64::INFINITY)), (-1.0, 0.0));
    }
}
