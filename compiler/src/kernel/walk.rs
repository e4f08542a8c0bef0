//! Walks over values: which ones an expression takes.
//!
//! Takes an expression, calls back for each operand; it changes nothing itself.

use crate::kernel::{Expression, Value};

impl Expression {
    /// Calls back for every operand, in order.
    pub fn each_operand(&self, mut call: impl FnMut(Value)) {
        match self {
            Expression::Constant(_) | Expression::Builtin(_) => {}
            Expression::Unary(_, x)
            | Expression::Convert(_, x)
            | Expression::Bits(_, x)
            | Expression::Splat(x, _)
            | Expression::Extract(x, _)
            | Expression::Unpack(x)
            | Expression::Pack(x)
            | Expression::Load(_, x) => call(*x),
            Expression::Binary(_, a, b) | Expression::ExtractAt(a, b) => {
                [a, b].into_iter().for_each(|x| call(*x))
            }
            Expression::Fma(a, b, c) | Expression::Select(a, b, c) => {
                [a, b, c].into_iter().for_each(|x| call(*x))
            }
            Expression::Compose(lanes) => lanes.iter().for_each(|x| call(*x)),
        }
    }
}
