//! Pointwise operators that others make up, so that a machine needs no function for them.
//!
//! Data only: an operator's file holds its formula, and lowering puts it in the operator's place.

use crate::ops::Op;

/// One operator of a formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    /// The operator, which is pointwise.
    pub op: Op,
    /// What it is applied to.
    pub operands: Vec<Term>,
}

/// What an operator of a formula is applied to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// The operand of that number of the operator that has the formula.
    Operand(usize),
    /// The result of the operator of that number in the formula.
    Made(usize),
    /// A number of the type of the first operand.
    Number(f64),
}

impl Application {
    /// An operator with its operands.
    pub(crate) fn new(op: impl Into<Op>, operands: &[Term]) -> Application {
        Application {
            op: op.into(),
            operands: operands.to_vec(),
        }
    }
}
