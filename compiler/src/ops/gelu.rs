//! The operator [`Gelu`].

use crate::graph::{TensorType, Value};
use crate::ops::attribute::{attributes, named_field};
use crate::ops::elementary::{Elementary, Pointwise, QUICK_STEEPNESS, TANH_CUBE};
use crate::ops::pointwise::map_floats;
use crate::ops::reverse::{Gradients, Reverse, RuleError};
use crate::ops::shape::float;
use crate::ops::{Class, Erf, Exp, Operator, Sigmoid, Tanh, Violation};
use crate::value::array::{Array, Fault};
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// # Meaning
/// By `form`, with `σ(x) = 1 / (1 + e^{−x})`:
/// * `erf`: `result = x / 2 · (1 + erf(x / √2))`;
/// * `tanh`: `result = x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`;
/// * `quick`: `result = x · σ(1.702 · x)`.
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
/// * `erf`: `dx = dr · (Φ(x) + x · φ(x))` with the normal distribution `Φ` and its density `φ`;
/// * `tanh`: `dx = dr / 2 · (1 + t + x · (1 − t²) · √(2/π) · (1 + 0.134145 · x²))`, `t` the `tanh`;
/// * `quick`: `dx = dr · s · (1 + 1.702 · x · (1 − s))` with `s = σ(1.702 · x)`.
///
/// # Source
/// Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2; `quick` is CLIP's `QuickGELU`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gelu {
    /// Exact or one of the two approximations.
    pub form: GeluForm,
}

/// How [`Gelu`] is computed; models are trained with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GeluForm {
    /// Exactly, through the error function.
    Erf,
    /// Approximately, through the hyperbolic tangent.
    Tanh,
    /// Approximately, through the logistic function.
    Quick,
}

attributes!(Gelu { form });
named_field!(GeluForm {
    Erf = "erf",
    Tanh = "tanh",
    Quick = "quick"
});

impl Operator for Gelu {
    const NAME: &'static str = "gelu";
    const OPERANDS: (usize, usize) = (1, 1);
    const CLASS: Class = Class::Pointwise;
    const TOLERANCE: f64 = 2e-6;

    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation> {
        float("C1", operands[0])?;
        Ok(operands[0].clone())
    }

    fn eval(&self, operands: &[&Array], _result: &Extents) -> Result<Values, Fault> {
        Ok(map_floats(operands[0], self.form.function().exact()))
    }

    fn pointwise(&self) -> Option<Pointwise> {
        Some(Pointwise::Unary(self.form.function()))
    }

    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients {
        at.unary(|at| {
            let slope = self.form.slope(at, at.operand(0))?;
            at.mul(at.cotangent, slope)
        })
    }
}

impl GeluForm {
    /// The function that it is.
    pub(crate) fn function(self) -> Elementary {
        match self {
            GeluForm::Erf => Elementary::GeluErf,
            GeluForm::Tanh => Elementary::GeluTanh,
            GeluForm::Quick => Elementary::GeluQuick,
        }
    }

    /// The slope of this form at `x`.
    pub(crate) fn slope(self, at: &mut Reverse<'_>, x: Value) -> Result<Value, RuleError> {
        let square = at.mul(x, x)?;
        match self {
            GeluForm::Erf => {
                let scaled = at.scaled(x, std::f64::consts::FRAC_1_SQRT_2)?;
                let error = at.push(Erf, &[scaled])?;
                let one = at.number(1.0, x)?;
                let twice = at.add(error, one)?;
                let below = at.scaled(twice, 0.5)?;
                let exponent = at.scaled(square, -0.5)?;
                let bell = at.push(Exp, &[exponent])?;
                let density = at.scaled(bell, (0.5 / std::f64::consts::PI).sqrt())?;
                let risen = at.mul(x, density)?;
                at.add(below, risen)
            }
            GeluForm::Tanh => {
                let steepness = (2.0 / std::f64::consts::PI).sqrt();
                let bent = at.scaled(square, TANH_CUBE)?;
                let one = at.number(1.0, x)?;
                let inner = at.add(bent, one)?;
                let inner = at.mul(inner, x)?;
                let inner = at.scaled(inner, steepness)?;
                let t = at.push(Tanh, &[inner])?;
                let squared = at.mul(t, t)?;
                let rest = at.number_minus(1.0, squared)?;
                let slope = at.scaled(square, 3.0 * TANH_CUBE)?;
                let slope = at.add(slope, one)?;
                let slope = at.scaled(slope, steepness)?;
                let risen = at.mul(x, rest)?;
                let risen = at.mul(risen, slope)?;
                let sum = at.add(t, risen)?;
                let sum = at.add(sum, one)?;
                at.scaled(sum, 0.5)
            }
            GeluForm::Quick => {
                let scaled = at.scaled(x, QUICK_STEEPNESS)?;
                let open = at.push(Sigmoid, &[scaled])?;
                let rest = at.number_minus(1.0, open)?;
                let bent = at.mul(scaled, rest)?;
                let one = at.number(1.0, x)?;
                let slope = at.add(bent, one)?;
                at.mul(open, slope)
            }
        }
    }
}
