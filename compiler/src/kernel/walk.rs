//! Walks over kernels: which values an expression or a statement uses and defines, which blocks
//! are in it, and the same with others in their place.
//!
//! Takes expressions, statements and blocks, calls back for each value, block or statement; it
//! knows no types.

use crate::kernel::{Carried, ChunkCopy, Expression, MatrixLoad, Statement, Value};

/// Calls back for every statement of a block and of the blocks in it, outer ones first.
pub(super) fn each_statement(block: &[Statement], call: &mut impl FnMut(&Statement)) {
    for statement in block {
        call(statement);
        for inner in statement.blocks() {
            each_statement(inner, call);
        }
    }
}

impl Expression {
    /// Calls back for every operand, in order.
    pub fn each_operand(&self, mut call: impl FnMut(Value)) {
        let _ = self.with_operands(|operand| {
            call(operand);
            operand
        });
    }

    /// The expression with other operands.
    #[must_use]
    pub fn with_operands(&self, mut call: impl FnMut(Value) -> Value) -> Expression {
        let mut other = self.clone();
        match &mut other {
            Expression::Constant(_) | Expression::Builtin(_) => {}
            Expression::Unary(_, x)
            | Expression::Convert(_, x)
            | Expression::Bits(_, x)
            | Expression::Splat(x, _)
            | Expression::Extract(x, _)
            | Expression::Unpack(x)
            | Expression::Pack(x)
            | Expression::Shuffle(x, _)
            | Expression::LoadMatrix(MatrixLoad { row: x, .. })
            | Expression::Load(_, x) => *x = call(*x),
            Expression::Binary(_, a, b) | Expression::ExtractAt(a, b) => {
                [a, b].into_iter().for_each(|x| *x = call(*x));
            }
            Expression::Fma(a, b, c)
            | Expression::Select(a, b, c)
            | Expression::Mma(_, a, b, c) => {
                [a, b, c].into_iter().for_each(|x| *x = call(*x));
            }
            Expression::Compose(lanes) => lanes.iter_mut().for_each(|x| *x = call(*x)),
        }
        other
    }
}

impl Statement {
    /// The blocks in it, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &[Statement]> {
        let (first, second) = match self {
            Statement::Let(..)
            | Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => (None, None),
            Statement::If(branch) => (Some(&branch.then), Some(&branch.otherwise)),
            Statement::For(repeat) => (Some(&repeat.body), None),
        };
        [first, second].into_iter().flatten().map(Vec::as_slice)
    }

    /// The statement with other blocks in the place of its own, in order.
    #[must_use]
    pub fn with_blocks(
        mut self,
        mut call: impl FnMut(Vec<Statement>) -> Vec<Statement>,
    ) -> Statement {
        let mut replace = |block: &mut Vec<Statement>| *block = call(std::mem::take(block));
        match &mut self {
            Statement::Let(..)
            | Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => {}
            Statement::If(branch) => {
                replace(&mut branch.then);
                replace(&mut branch.otherwise);
            }
            Statement::For(repeat) => replace(&mut repeat.body),
        }
        self
    }

    /// Calls back for every value that the statement itself uses: before its blocks, then at the
    /// end of each.
    pub fn each_use(&self, mut call: impl FnMut(Value)) {
        match self {
            Statement::Let(_, expression) => expression.each_operand(call),
            Statement::Store { index, value, .. } => [*index, *value].into_iter().for_each(call),
            Statement::Copy(ChunkCopy {
                place,
                index,
                holds,
                ..
            }) => [*place, *index, *holds].into_iter().for_each(call),
            Statement::Barrier | Statement::Commit | Statement::Wait(_) => {}
            Statement::If(branch) => {
                call(branch.condition);
                for (_, yes, no) in &branch.results {
                    [*yes, *no].into_iter().for_each(&mut call);
                }
            }
            Statement::For(repeat) => {
                [repeat.start, repeat.end].into_iter().for_each(&mut call);
                for each in &repeat.carried {
                    [each.initial, each.next].into_iter().for_each(&mut call);
                }
            }
        }
    }

    /// The statement with other values in the place of those that it uses itself.
    #[must_use]
    pub fn with_uses(mut self, mut call: impl FnMut(Value) -> Value) -> Statement {
        let mut replace = |value: &mut Value| *value = call(*value);
        match &mut self {
            Statement::Let(_, expression) => *expression = expression.with_operands(call),
            Statement::Store { index, value, .. } => [index, value].into_iter().for_each(replace),
            Statement::Copy(ChunkCopy {
                place,
                index,
                holds,
                ..
            }) => [place, index, holds].into_iter().for_each(replace),
            Statement::Barrier | Statement::Commit | Statement::Wait(_) => {}
            Statement::If(branch) => {
                replace(&mut branch.condition);
                for (_, yes, no) in &mut branch.results {
                    [yes, no].into_iter().for_each(&mut replace);
                }
            }
            Statement::For(repeat) => {
                replace(&mut repeat.start);
                replace(&mut repeat.end);
                for Carried { initial, next, .. } in &mut repeat.carried {
                    [initial, next].into_iter().for_each(&mut replace);
                }
            }
        }
        self
    }

    /// Calls back for every value that the statement defines for those after it.
    pub fn each_definition(&self, mut call: impl FnMut(Value)) {
        match self {
            Statement::Let(value, _) => call(*value),
            Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => {}
            Statement::If(branch) => branch.results.iter().for_each(|(value, ..)| call(*value)),
            Statement::For(repeat) => repeat.carried.iter().for_each(|each| call(each.result)),
        }
    }
}
