//! Computes before a branch what is cheap in it.
//!
//! Takes a kernel; sums, products, comparisons and the like of integers, and quotients by known
//! ones, leave the first block of a branch: it is the likely one, and what two branches or all turns
//! of a loop have in common can then be found. What needs a unit of its own, such as f32 functions
//! and loads, stays, and so does what may have no value.

use std::collections::BTreeSet;

use crate::kernel::compute;
use crate::kernel::{Binary, Expression, Kernel, Scalar, Statement, Type, Unary, Value};

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
            match statement {
                Statement::Let(value, expression) => {
                    if let Expression::Constant(constant) = expression {
                        self.known[value.0 as usize] = Some(compute::word(constant));
                    }
                    out.push(Statement::Let(value, expression));
                }
                Statement::Store { .. } | Statement::Barrier => out.push(statement),
                Statement::If {
                    condition,
                    then,
                    otherwise,
                    results,
                } => {
                    let then = self.block(then);
                    let then = self.leave(then, &mut out);
                    let otherwise = self.block(otherwise);
                    out.push(Statement::If {
                        condition,
                        then,
                        otherwise,
                        results,
                    });
                }
                Statement::For {
                    counter,
                    start,
                    end,
                    step,
                    carried,
                    body,
                } => {
                    let body = self.block(body);
                    out.push(Statement::For {
                        counter,
                        start,
                        end,
                        step,
                        carried,
                        body,
                    });
                }
            }
        }
        out
    }

    /// Moves what is cheap to `out`; gives the rest.
    fn leave(&self, block: Vec<Statement>, out: &mut Vec<Statement>) -> Vec<Statement> {
        let mut inside = BTreeSet::new();
        let mut rest = Vec::with_capacity(block.len());
        for statement in block {
            match &statement {
                Statement::Let(value, expression) => {
                    let mut leaves = self.is_cheap(*value, expression);
                    expression.each_operand(|operand| leaves &= !inside.contains(&operand));
                    if leaves {
                        out.push(statement);
                        continue;
                    }
                    inside.insert(*value);
                }
                Statement::Store { .. } | Statement::Barrier => {}
                Statement::If { results, .. } => {
                    inside.extend(results.iter().map(|(value, ..)| *value));
                }
                Statement::For { carried, .. } => {
                    inside.extend(carried.iter().map(|each| each.result));
                }
            }
            rest.push(statement);
        }
        rest
    }

    fn is_cheap(&self, value: Value, expression: &Expression) -> bool {
        let is_integer = |value: Value| {
            let Type { scalar, lanes } = self.kernel.type_of(value);
            lanes == 1 && matches!(scalar, Scalar::Bool | Scalar::I32 | Scalar::U32)
        };
        let mut integers = is_integer(value);
        expression.each_operand(|operand| integers &= is_integer(operand));
        match expression {
            Expression::Constant(_) | Expression::Builtin(_) => true,
            Expression::Binary(Binary::Div | Binary::Rem, _, b) => {
                integers && matches!(self.known[b.0 as usize], Some(1..))
            }
            Expression::Binary(Binary::ShiftLeft | Binary::ShiftRight, _, b) => {
                integers && matches!(self.known[b.0 as usize], Some(0..32))
            }
            Expression::Unary(Unary::Neg | Unary::Not | Unary::Abs, _)
            | Expression::Binary(..)
            | Expression::Select(..)
            | Expression::Convert(..) => integers,
            Expression::Unary(..)
            | Expression::Fma(..)
            | Expression::Bits(..)
            | Expression::Splat(..)
            | Expression::Extract(..)
            | Expression::ExtractAt(..)
            | Expression::Compose(_)
            | Expression::Unpack(_)
            | Expression::Pack(_)
            | Expression::Load(..) => false,
        }
    }
}
