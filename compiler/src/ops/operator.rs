//! What every operator says about itself, and the constraint that does not hold.
//!
//! Takes nothing; each operator's file implements [`Operator`].

use thiserror::Error;

use crate::graph::TensorType;
use crate::ops::attribute::Attributes;
use crate::ops::class::Class;
use crate::ops::elementary::Pointwise;
use crate::ops::formula::Application;
use crate::ops::reverse::{Gradients, Reverse};
use crate::value::array::{Array, Fault};
use crate::value::dim::Dim;
use crate::value::extents::Extents;
use crate::value::tensor::Values;

/// What an operator says about itself, in its file.
pub trait Operator: Attributes {
    /// The name in the text form: the name of its file.
    const NAME: &'static str;

    /// The fewest and the most operands; optional ones are left out at the end.
    const OPERANDS: (usize, usize);

    /// What it is to a kernel.
    const CLASS: Class;

    /// The largest error of an f32 implementation, relative to the largest magnitude of the
    /// result. A value above 1e-5 needs its reason beside it.
    const TOLERANCE: f64;

    /// The type of the result.
    ///
    /// # Errors
    /// The first constraint that does not hold.
    fn infer(&self, operands: &[&TensorType]) -> Result<TensorType, Violation>;

    /// The oracle: the operator's meaning in plain loops and 64-bit arithmetic. Operands and
    /// result are row-major; their types hold what [`Operator::infer`] accepted.
    ///
    /// # Errors
    /// When the data (an index, a divisor) lies outside of the operator's domain.
    fn eval(&self, operands: &[&Array], result: &Extents) -> Result<Values, Fault>;

    /// What a machine computes for it where its operands and its result are floats of at most 32
    /// bits; `None` for what is not pointwise, and for what machines have no function for.
    fn pointwise(&self) -> Option<Pointwise> {
        None
    }

    /// Other pointwise operators that are computed in its place, the last of which makes the
    /// result; empty for an operator that is computed as it is.
    fn formula(&self) -> Vec<Application> {
        Vec::new()
    }

    /// The gradient rule: the gradients with respect to the operands, built of other operators
    /// from the one with respect to the result.
    ///
    /// # Errors
    /// When the operator has no gradient with these attributes.
    fn gradient(&self, at: &mut Reverse<'_>) -> Gradients;

    /// Floating-point operations, counting a multiply-add as two.
    fn flops(&self, operands: &[TensorType], result: &TensorType) -> Dim {
        let each = match self.pointwise() {
            Some(Pointwise::Unary(function)) => function.flops(),
            Some(Pointwise::Binary(function)) => function.flops(),
            None => 1,
        };
        match Self::CLASS {
            Class::Movement | Class::Gather => Dim::from(0),
            Class::Row => operands[0].elements(),
            Class::Pointwise | Class::Gemm | Class::Conv | Class::Attention | Class::Plain => {
                result.elements().mul(&Dim::from(each))
            }
        }
    }
}

/// A constraint of an operator that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("found {found}, wanted {wanted} ({constraint})")]
pub struct Violation {
    /// The constraint's number in the operator's documentation; `C0` is the operand count.
    pub constraint: &'static str,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: String,
}

impl Violation {
    /// A constraint that does not hold.
    pub fn new(constraint: &'static str, found: impl ToString, wanted: impl ToString) -> Violation {
        Violation {
            constraint,
            found: found.to_string(),
            wanted: wanted.to_string(),
        }
    }

    /// Requires that a constraint holds; formats `found` and `wanted` only where it does not.
    ///
    /// # Errors
    /// The constraint, if `holds` is false.
    pub(crate) fn unless(
        holds: bool,
        constraint: &'static str,
        found: impl ToString,
        wanted: impl ToString,
    ) -> Result<(), Violation> {
        match holds {
            true => Ok(()),
            false => Err(Violation::new(constraint, found, wanted)),
        }
    }
}
