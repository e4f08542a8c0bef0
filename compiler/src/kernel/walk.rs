//! Walks over values: which ones an expression takes, and what it is with others.
//!
//! Takes an expression, calls back for each operand; it knows no types and no statements.

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

    /// The expression with other operands.
    pub fn with_operands(&self, mut call: impl FnMut(Value) -> Value) -> Expression {
        match self {
            Expression::Constant(_) | Expression::Builtin(_) => self.clone(),
            Expression::Unary(function, x) => Expression::Unary(*function, call(*x)),
            Expression::Binary(function, a, b) => {
                let a = call(*a);
                Expression::Binary(*function, a, call(*b))
            }
            Expression::Fma(a, b, c) => {
                let (a, b) = (call(*a), call(*b));
                Expression::Fma(a, b, call(*c))
            }
            Expression::Select(a, b, c) => {
                let (a, b) = (call(*a), call(*b));
                Expression::Select(a, b, call(*c))
            }
            Expression::Convert(scalar, x) => Expression::Convert(*scalar, call(*x)),
            Expression::Bits(scalar, x) => Expression::Bits(*scalar, call(*x)),
            Expression::Splat(x, lanes) => Expression::Splat(call(*x), *lanes),
            Expression::Extract(x, lane) => Expression::Extract(call(*x), *lane),
            Expression::ExtractAt(x, lane) => {
                let x = call(*x);
                Expression::ExtractAt(x, call(*lane))
            }
            Expression::Compose(lanes) => {
                Expression::Compose(lanes.iter().map(|lane| call(*lane)).collect())
            }
            Expression::Unpack(x) => Expression::Unpack(call(*x)),
            Expression::Pack(x) => Expression::Pack(call(*x)),
            Expression::Load(memory, index) => Expression::Load(*memory, call(*index)),
        }
    }
}
