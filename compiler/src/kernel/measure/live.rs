//! How many registers an invocation needs: the most lanes that live at the same time.
//!
//! Takes a kernel, goes through it backwards with the values that are needed later. What a loop
//! uses from outside lives through all of it, and so do its counter and its end. Numbers that are
//! known stand in instructions and take no register. It moves no statement: a compiler that does
//! may need less.

use std::collections::BTreeSet;

use crate::kernel::walk::each_statement;
use crate::kernel::{Expression, Kernel, Loop, Scalar, Statement, Type, Value};

/// Registers of 32 bits of one invocation.
pub(super) fn registers(kernel: &Kernel) -> u32 {
    let mut state = State {
        kernel,
        free: vec![false; kernel.types.len()],
        most: 0,
    };
    each_statement(&kernel.body, &mut |statement| {
        if let Statement::Let(value, Expression::Constant(_)) = statement {
            state.free[value.0 as usize] = true;
        }
    });
    let mut live = Live::default();
    state.block(&kernel.body, &mut live);
    state.most
}

/// Values that are needed later, and their registers.
#[derive(Debug, Clone, Default)]
struct Live {
    values: BTreeSet<Value>,
    registers: u32,
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value: whether it takes no register.
    free: Vec<bool>,
    most: u32,
}

fn size(ty: Type) -> u32 {
    match ty.scalar {
        Scalar::F16 => u32::from(ty.lanes).div_ceil(2),
        Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 => ty.lanes.into(),
    }
}

impl State<'_> {
    fn add(&mut self, live: &mut Live, value: Value) {
        if !self.free[value.0 as usize] && live.values.insert(value) {
            live.registers += size(self.kernel.type_of(value));
        }
    }

    fn remove(&self, live: &mut Live, value: Value) {
        if live.values.remove(&value) {
            live.registers -= size(self.kernel.type_of(value));
        }
    }

    fn block(&mut self, block: &[Statement], live: &mut Live) {
        self.most = self.most.max(live.registers);
        for statement in block.iter().rev() {
            self.statement(statement, live);
            self.most = self.most.max(live.registers);
        }
    }

    fn statement(&mut self, statement: &Statement, live: &mut Live) {
        match statement {
            Statement::Let(value, expression) => {
                self.remove(live, *value);
                expression.each_operand(|operand| self.add(live, operand));
            }
            Statement::Store { .. }
            | Statement::Copy(_)
            | Statement::Barrier
            | Statement::Commit
            | Statement::Wait(_) => statement.each_use(|value| self.add(live, value)),
            Statement::If(branch) => {
                for (value, ..) in &branch.results {
                    self.remove(live, *value);
                }
                let mut other = live.clone();
                for (_, yes, no) in &branch.results {
                    self.add(live, *yes);
                    self.add(&mut other, *no);
                }
                self.block(&branch.then, live);
                self.block(&branch.otherwise, &mut other);
                for value in other.values {
                    self.add(live, value);
                }
                self.add(live, branch.condition);
            }
            Statement::For(repeat) => {
                for each in &repeat.carried {
                    self.remove(live, each.result);
                }
                for value in from_outside(repeat) {
                    self.add(live, value);
                }
                for each in &repeat.carried {
                    self.add(live, each.next);
                }
                self.add(live, repeat.counter);
                self.add(live, repeat.end);
                self.block(&repeat.body, live);
                for each in &repeat.carried {
                    self.remove(live, each.value);
                }
                self.remove(live, repeat.counter);
                self.add(live, repeat.start);
                for each in &repeat.carried {
                    self.add(live, each.initial);
                }
            }
        }
    }
}

/// What a loop's body uses and does not define.
fn from_outside(repeat: &Loop) -> BTreeSet<Value> {
    let values = repeat.carried.iter().map(|each| each.value);
    let mut defined: BTreeSet<Value> = values.chain([repeat.counter]).collect();
    let mut used = BTreeSet::new();
    each_statement(&repeat.body, &mut |statement| {
        statement.each_use(|value| {
            used.insert(value);
        });
        statement.each_definition(|value| {
            defined.insert(value);
        });
        if let Statement::For(inner) = statement {
            defined.insert(inner.counter);
            defined.extend(inner.carried.iter().map(|each| each.value));
        }
    });
    used.difference(&defined).copied().collect()
}
