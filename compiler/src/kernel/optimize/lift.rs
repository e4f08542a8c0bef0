//! Computes before a branch what is cheap in it.
//!
//! Takes a kernel; sums, products, comparisons and the like of integers, and quotients by known
//! ones, leave the first block of a branch: it is the likely one, and what two branches or all
//! turns of a loop have in common can then be found. What needs a unit of its own, such as f32
//! functions and loads, stays, and so does what may have no value.

use std::collections::BTreeSet;

use crate::kernel::compute;
use crate::kernel::{Expression, Kernel, Scalar, Statement, Type, Unary, Value};

/// The pass.
pub(super) fn lift(mut kernel: Kernel) -> Kernel {
    let body = std::mem::take(&mut kernel.body);
    let mut state = State {
        kernel: &kernel,
        known: vec![None; kernel.types.len()],
    };
    let body = state.block(body);
    kernel.body = body;
    kernel
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value: the word of the number that it is.
    known: Vec<Option<u32>>,
}

impl State<'_> {
    fn block(&mut self, block: Vec<Statement>) -> Vec<Statement> {
        let mut out = Vec::with_capacity(block.len());
        for statement in block {
            let mut statement = statement.with_blocks(|block| self.block(block));
            if let Statement::Let(value, Expression::Constant(constant)) = &statement {
                self.known[value.0 as usize] = Some(compute::word(*constant));
            }
            if let Statement::If(branch) = &mut statement {
                self.leave(&mut branch.then, &mut out);
            }
            out.push(statement);
        }
        out
    }

    /// Moves what is cheap to `out`.
    fn leave(&self, block: &mut Vec<Statement>, out: &mut Vec<Statement>) {
        let mut inside = BTreeSet::new();
        let statements = std::mem::take(block).into_iter();
        let (left, rest): (Vec<_>, Vec<_>) = statements.partition(|statement| {
            let mut leaves = false;
            if let Statement::Let(value, expression) = statement {
                leaves = self.is_cheap(*value, expression);
                expression.each_operand(|operand| leaves &= !inside.contains(&operand));
            }
            if !leaves {
                statement.each_definition(|value| {
                    inside.insert(value);
                });
            }
            leaves
        });
        out.extend(left);
        *block = rest;
    }

    fn is_cheap(&self, value: Value, expression: &Expression) -> bool {
        let is_integer = |value: Value| {
            let Type { scalar, lanes } = self.kernel.type_of(value);
            lanes == 1 && matches!(scalar, Scalar::Bool | Scalar::I32 | Scalar::U32)
        };
        let mut integers = is_integer(value);
        expression.each_operand(|operand| integers &= is_integer(operand));
        let known = |value: Value| self.known[value.0 as usize];
        let is_cheap = matches!(
            expression,
            Expression::Unary(Unary::Neg | Unary::Not | Unary::Abs, _)
                | Expression::Binary(..)
                | Expression::Select(..)
                | Expression::Convert(..)
        );
        let is_free = matches!(expression, Expression::Constant(_) | Expression::Builtin(_));
        is_free || is_cheap && integers && self.kernel.is_total(expression, known)
    }
}
