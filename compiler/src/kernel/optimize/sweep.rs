//! Leaves out what nobody needs, and numbers values anew.
//!
//! Takes a kernel; what neither reaches a store nor decides whether one happens goes, of a loop
//! also single carried values. Barriers stay. Values are numbered in the order of the text.

use crate::kernel::{Carried, Kernel, Statement, Type, Value};

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
    let mut rest = Rest {
        needed: need.needed,
        old: &kernel.types,
        types: Vec::new(),
        numbers: vec![Value(u32::MAX); kernel.types.len()],
    };
    let body = rest.block(&kernel.body);
    (kernel.body, kernel.types) = (body, rest.types);
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
            Statement::Store { index, value, .. } => {
                self.set(*index);
                self.set(*value);
                true
            }
            Statement::Barrier => true,
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                let mut gives = false;
                for (value, yes, no) in results {
                    if self.is(*value) {
                        gives = true;
                        self.set(*yes);
                        self.set(*no);
                    }
                }
                let stays = self.block(then) | self.block(otherwise);
                if stays || gives {
                    self.set(*condition);
                }
                stays
            }
            Statement::For {
                start,
                end,
                carried,
                body,
                ..
            } => {
                let mut gives = false;
                for each in carried {
                    gives |= self.is(each.result);
                    if self.is(each.result) || self.is(each.value) {
                        self.set(each.value);
                        self.set(each.initial);
                        self.set(each.next);
                    }
                }
                let stays = self.block(body);
                if stays || gives {
                    self.set(*start);
                    self.set(*end);
                }
                stays
            }
        }
    }
}

/// Writes what stays.
struct Rest<'a> {
    needed: Vec<bool>,
    old: &'a [Type],
    types: Vec<Type>,
    /// By old value: the new one.
    numbers: Vec<Value>,
}

impl Rest<'_> {
    fn define(&mut self, value: Value) -> Value {
        let new = Value(self.types.len() as u32);
        self.types.push(self.old[value.0 as usize]);
        self.numbers[value.0 as usize] = new;
        new
    }

    fn of(&self, value: Value) -> Value {
        self.numbers[value.0 as usize]
    }

    fn is(&self, value: Value) -> bool {
        self.needed[value.0 as usize]
    }

    fn block(&mut self, block: &[Statement]) -> Vec<Statement> {
        block
            .iter()
            .filter_map(|statement| self.statement(statement))
            .collect()
    }

    fn statement(&mut self, statement: &Statement) -> Option<Statement> {
        match statement {
            Statement::Let(value, expression) => self.is(*value).then(|| {
                let expression = expression.with_operands(|operand| self.of(operand));
                Statement::Let(self.define(*value), expression)
            }),
            Statement::Store {
                memory,
                index,
                value,
            } => Some(Statement::Store {
                memory: *memory,
                index: self.of(*index),
                value: self.of(*value),
            }),
            Statement::Barrier => Some(Statement::Barrier),
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                let then = self.block(then);
                let otherwise = self.block(otherwise);
                let needed = results.iter().filter(|(value, ..)| self.is(*value));
                let needed: Vec<_> = needed.copied().collect();
                let results = needed.into_iter().map(|(value, yes, no)| {
                    let (yes, no) = (self.of(yes), self.of(no));
                    (self.define(value), yes, no)
                });
                let results: Vec<_> = results.collect();
                let is_empty = then.is_empty() && otherwise.is_empty() && results.is_empty();
                (!is_empty).then(|| Statement::If {
                    condition: self.of(*condition),
                    then,
                    otherwise,
                    results,
                })
            }
            Statement::For {
                counter,
                start,
                end,
                step,
                carried,
                body,
            } => {
                let needed = carried.iter().filter(|each| self.is(each.value));
                let needed: Vec<Carried> = needed.copied().collect();
                let counter = self.define(*counter);
                let values: Vec<Value> =
                    needed.iter().map(|each| self.define(each.value)).collect();
                let body = self.block(body);
                if body.is_empty() && needed.is_empty() {
                    return None;
                }
                let carried = needed.iter().zip(values).map(|(each, value)| {
                    let (initial, next) = (self.of(each.initial), self.of(each.next));
                    Carried {
                        initial,
                        value,
                        next,
                        result: self.define(each.result),
                    }
                });
                Some(Statement::For {
                    counter,
                    carried: carried.collect(),
                    start: self.of(*start),
                    end: self.of(*end),
                    step: *step,
                    body,
                })
            }
        }
    }
}
