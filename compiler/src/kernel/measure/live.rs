//! How many registers an invocation needs: the most lanes that live at the same time.
//!
//! Takes a kernel, goes through it backwards with the values that are needed later. What a loop
//! uses from outside lives through all of it, and so do its counter and its end. Numbers that are
//! known stand in instructions and take no register. It moves no statement: a compiler that does
//! may need less.

use std::collections::BTreeSet;

use crate::kernel::{Carried, Expression, Kernel, Scalar, Statement, Type, Value};

/// Registers of 32 bits of one invocation.
pub(super) fn registers(kernel: &Kernel) -> u32 {
    let mut state = State {
        kernel,
        free: vec![false; kernel.types.len()],
        most: 0,
    };
    state.find_free(&kernel.body);
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
    fn find_free(&mut self, block: &[Statement]) {
        for statement in block {
            match statement {
                Statement::Let(value, expression) => {
                    let known = matches!(expression, Expression::Constant(_));
                    self.free[value.0 as usize] = known;
                }
                Statement::Store { .. } | Statement::Barrier => {}
                Statement::If {
                    then, otherwise, ..
                } => {
                    self.find_free(then);
                    self.find_free(otherwise);
                }
                Statement::For { body, .. } => self.find_free(body),
            }
        }
    }

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
            Statement::Store { index, value, .. } => {
                self.add(live, *index);
                self.add(live, *value);
            }
            Statement::Barrier => {}
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                results
                    .iter()
                    .for_each(|(value, ..)| self.remove(live, *value));
                let mut other = live.clone();
                for (_, yes, no) in results {
                    self.add(live, *yes);
                    self.add(&mut other, *no);
                }
                self.block(then, live);
                self.block(otherwise, &mut other);
                for value in other.values {
                    self.add(live, value);
                }
                self.add(live, *condition);
            }
            Statement::For {
                counter,
                start,
                end,
                step: _,
                carried,
                body,
            } => {
                for each in carried {
                    self.remove(live, each.result);
                }
                for value in from_outside(*counter, carried, body) {
                    self.add(live, value);
                }
                for value in carried.iter().map(|each| each.next) {
                    self.add(live, value);
                }
                self.add(live, *counter);
                self.add(live, *end);
                self.block(body, live);
                for each in carried {
                    self.remove(live, each.value);
                }
                self.remove(live, *counter);
                self.add(live, *start);
                for each in carried {
                    self.add(live, each.initial);
                }
            }
        }
    }
}

/// What a loop's body uses and does not define.
fn from_outside(counter: Value, carried: &[Carried], body: &[Statement]) -> BTreeSet<Value> {
    let (mut used, mut defined) = (BTreeSet::new(), BTreeSet::from([counter]));
    defined.extend(carried.iter().map(|each| each.value));
    collect(body, &mut used, &mut defined);
    used.difference(&defined).copied().collect()
}

fn collect(block: &[Statement], used: &mut BTreeSet<Value>, defined: &mut BTreeSet<Value>) {
    for statement in block {
        match statement {
            Statement::Let(value, expression) => {
                defined.insert(*value);
                expression.each_operand(|operand| {
                    used.insert(operand);
                });
            }
            Statement::Store { index, value, .. } => used.extend([*index, *value]),
            Statement::Barrier => {}
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                used.insert(*condition);
                collect(then, used, defined);
                collect(otherwise, used, defined);
                for (value, yes, no) in results {
                    defined.insert(*value);
                    used.extend([*yes, *no]);
                }
            }
            Statement::For {
                counter,
                start,
                end,
                step: _,
                carried,
                body,
            } => {
                used.extend([*start, *end]);
                defined.insert(*counter);
                for each in carried {
                    defined.extend([each.value, each.result]);
                    used.extend([each.initial, each.next]);
                }
                collect(body, used, defined);
            }
        }
    }
}
