//! Computes before a loop what is the same in every turn.
//!
//! Takes a kernel; expressions whose operands come from outside of a loop leave it, the innermost
//! loop first. What may have no value (a quotient by what is not known, an element of a buffer)
//! leaves only a loop that surely runs, and only loads of buffers that the kernel never stores to
//! leave at all. What stands in a branch stays there.

use crate::kernel::compute;
use crate::kernel::{Expression, Kernel, Loop, Statement, Value};

/// The pass.
pub(super) fn hoist(mut kernel: Kernel) -> Kernel {
    let body = std::mem::take(&mut kernel.body);
    let mut state = State {
        kernel: &kernel,
        known: vec![None; kernel.types.len()],
        inside: vec![false; kernel.types.len()],
    };
    let body = state.block(body);
    kernel.body = body;
    kernel
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value: the word of the integer that it is.
    known: Vec<Option<u32>>,
    /// By value: whether the loop at hand defines it.
    inside: Vec<bool>,
}

impl State<'_> {
    fn block(&mut self, block: Vec<Statement>) -> Vec<Statement> {
        let mut out = Vec::with_capacity(block.len());
        for statement in block {
            let mut statement = statement.with_blocks(|block| self.block(block));
            if let Statement::Let(value, Expression::Constant(constant)) = &statement {
                self.known[value.0 as usize] = Some(compute::word(*constant));
            }
            if let Statement::For(repeat) = &mut statement {
                self.leave(repeat, &mut out);
            }
            out.push(statement);
        }
        out
    }

    /// Says of all values that a block itself defines whether they are inside of the loop at hand.
    fn mark(&mut self, block: &[Statement], inside: bool) {
        for statement in block {
            statement.each_definition(|value| self.inside[value.0 as usize] = inside);
        }
    }

    /// Moves what may leave the loop to `out`.
    fn leave(&mut self, repeat: &mut Loop, out: &mut Vec<Statement>) {
        let bounds = [repeat.start, repeat.end].map(|bound| self.known[bound.0 as usize]);
        let runs = matches!(
            bounds,
            [Some(start), Some(end)] if start.cast_signed() < end.cast_signed()
        );
        self.mark(&repeat.body, true);
        let own = repeat.carried.iter().map(|each| each.value);
        own.chain([repeat.counter])
            .for_each(|value| self.inside[value.0 as usize] = true);
        let body = std::mem::take(&mut repeat.body).into_iter();
        let (left, rest): (Vec<_>, Vec<_>) = body.partition(|statement| {
            let Statement::Let(value, expression) = statement else {
                return false;
            };
            let leaves = self.leaves(expression, runs);
            self.inside[value.0 as usize] = !leaves;
            leaves
        });
        out.extend(left);
        self.mark(&rest, false);
        repeat.body = rest;
    }

    fn leaves(&self, expression: &Expression, runs: bool) -> bool {
        let mut outside = true;
        expression.each_operand(|operand| outside &= !self.inside[operand.0 as usize]);
        let changes = match expression {
            Expression::Load(memory, _) => self.kernel.changes(*memory),
            other => matches!(other, Expression::LoadMatrix(_)),
        };
        let known = |value: Value| self.known[value.0 as usize];
        outside && !changes && (runs || self.kernel.is_total(expression, known))
    }
}
