//! Leaves out what nobody needs, and numbers values anew.
//!
//! Takes a kernel; what neither reaches a store nor decides whether one happens goes, of a loop
//! also single carried values. Barriers stay. Values are numbered in the order of the text.

use crate::kernel::{Carried, Kernel, Statement, Value};

/// The pass.
pub(super) fn sweep(mut kernel: Kernel) -> Kernel {
    let mut need = Need {
        needed: vec![false; kernel.types.len()],
        changed: true,
    };
    while need.changed {
        need.changed = false;
        need.block(&kernel.body);
    }
    let needed = need.needed;
    prune(&mut kernel.body, &|value| needed[value.0 as usize]);
    let mut numbers = vec![Value(u32::MAX); kernel.types.len()];
    let mut types = Vec::with_capacity(kernel.types.len());
    number(&kernel.body, &mut |value| {
        numbers[value.0 as usize] = Value(types.len() as u32);
        types.push(kernel.type_of(value));
    });
    let body = std::mem::take(&mut kernel.body);
    kernel.body = renumbered(body, &|value| numbers[value.0 as usize]);
    kernel.types = types;
    kernel
}

/// Finds the values that are needed, going up until nothing changes.
struct Need {
    needed: Vec<bool>,
    changed: bool,
}

impl Need {
    fn is(&self, value: Value) -> bool {
        self.needed[value.0 as usize]
    }

    fn set(&mut self, value: Value) {
        if !self.is(value) {
            self.needed[value.0 as usize] = true;
            self.changed = true;
        }
    }

    /// Gives whether a statement must stay whatever it defines.
    fn block(&mut self, block: &[Statement]) -> bool {
        let mut stays = false;
        for statement in block.iter().rev() {
            stays |= self.statement(statement);
        }
        stays
    }

    fn statement(&mut self, statement: &Statement) -> bool {
        match statement {
            Statement::Let(value, expression) => {
                if self.is(*value) {
                    expression.each_operand(|operand| self.set(operand));
                }
                false
            }
            Statement::Store { .. }
            | Statement::Copy(_)
            | Statement::Barrier
            | Statement::Commit
            | Statement::Wait(_) => {
                statement.each_use(|value| self.set(value));
                true
            }
            Statement::If(branch) => {
                let mut gives = false;
                for (value, yes, no) in &branch.results {
                    if self.is(*value) {
                        gives = true;
                        self.set(*yes);
                        self.set(*no);
                    }
                }
                let stays = self.block(&branch.then) | self.block(&branch.otherwise);
                if stays || gives {
                    self.set(branch.condition);
                }
                stays
            }
            Statement::For(repeat) => {
                let mut gives = false;
                for each in &repeat.carried {
                    gives |= self.is(each.result);
                    if self.is(each.result) || self.is(each.value) {
                        self.set(each.value);
                        self.set(each.initial);
                        self.set(each.next);
                    }
                }
                let stays = self.block(&repeat.body);
                if stays || gives {
                    self.set(repeat.start);
                    self.set(repeat.end);
                }
                stays
            }
        }
    }
}

/// Keeps what is needed, and statements that do something.
fn prune(block: &mut Vec<Statement>, is_needed: &impl Fn(Value) -> bool) {
    block.retain_mut(|statement| match statement {
        Statement::Let(value, _) => is_needed(*value),
        Statement::Store { .. }
        | Statement::Barrier
        | Statement::Copy(_)
        | Statement::Commit
        | Statement::Wait(_) => true,
        Statement::If(branch) => {
            prune(&mut branch.then, is_needed);
            prune(&mut branch.otherwise, is_needed);
            branch.results.retain(|(value, ..)| is_needed(*value));
            let blocks = [&branch.then, &branch.otherwise];
            !branch.results.is_empty() || blocks.iter().any(|block| !block.is_empty())
        }
        Statement::For(repeat) => {
            prune(&mut repeat.body, is_needed);
            repeat.carried.retain(|each| is_needed(each.value));
            !repeat.body.is_empty() || !repeat.carried.is_empty()
        }
    });
}

/// Calls back for every value that is defined, in the order of the text; what is left of a loop
/// comes after its body.
fn number(block: &[Statement], call: &mut impl FnMut(Value)) {
    for statement in block {
        if let Statement::For(repeat) = statement {
            call(repeat.counter);
            repeat.carried.iter().for_each(|each| call(each.value));
        }
        statement.blocks().for_each(|inner| number(inner, call));
        statement.each_definition(&mut *call);
    }
}

/// The block with other values.
fn renumbered(block: Vec<Statement>, of: &impl Fn(Value) -> Value) -> Vec<Statement> {
    let renumber = |statement: Statement| {
        let statement = statement.with_blocks(|block| renumbered(block, of));
        match statement.with_uses(of) {
            Statement::Let(value, expression) => Statement::Let(of(value), expression),
            Statement::If(mut branch) => {
                for (value, ..) in &mut branch.results {
                    *value = of(*value);
                }
                Statement::If(branch)
            }
            Statement::For(mut repeat) => {
                repeat.counter = of(repeat.counter);
                for Carried { value, result, .. } in &mut repeat.carried {
                    (*value, *result) = (of(*value), of(*result));
                }
                Statement::For(repeat)
            }
            other @ (Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_)) => other,
        }
    };
    block.into_iter().map(renumber).collect()
}
