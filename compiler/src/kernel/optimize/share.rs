//! Computes once what is computed twice.
//!
//! Takes a kernel; an expression that was computed before, in the same block or one around it, is
//! that value again. A load is the same while nothing is stored to its memory between, and, of
//! shared memory, no barrier stands between. It moves nothing.

use std::collections::HashMap;

use crate::kernel::{Binary, Carried, Expression, Kernel, Memory, Statement, Value};

/// The pass.
pub(super) fn share(mut kernel: Kernel) -> Kernel {
    let body = std::mem::take(&mut kernel.body);
    let mut state = State {
        kernel: &kernel,
        instead: (0..kernel.types.len() as u32).map(Value).collect(),
        known: HashMap::new(),
        ages: HashMap::new(),
        last_age: 0,
    };
    let body = state.block(body);
    kernel.body = body;
    kernel
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value: the one that stands for it.
    instead: Vec<Value>,
    /// By the text of an expression with its type.
    known: HashMap<String, Value>,
    /// By memory: how often it may have changed; loads of one age find the same.
    ages: HashMap<Memory, u64>,
    last_age: u64,
}

impl State<'_> {
    fn of(&self, value: Value) -> Value {
        self.instead[value.0 as usize]
    }

    /// What is known in a block is forgotten after it.
    fn block(&mut self, block: Vec<Statement>) -> Vec<Statement> {
        let mut out = Vec::with_capacity(block.len());
        let mut added = Vec::new();
        for statement in block {
            self.statement(statement, &mut out, &mut added);
        }
        for key in added {
            self.known.remove(&key);
        }
        out
    }

    fn statement(
        &mut self,
        statement: Statement,
        out: &mut Vec<Statement>,
        added: &mut Vec<String>,
    ) {
        match statement {
            Statement::Let(value, expression) => {
                let expression = expression.with_operands(|operand| self.of(operand));
                let key = self.key(value, &expression);
                match self.known.get(&key) {
                    Some(before) => self.instead[value.0 as usize] = *before,
                    None => {
                        self.known.insert(key.clone(), value);
                        added.push(key);
                        out.push(Statement::Let(value, expression));
                    }
                }
            }
            Statement::Store {
                memory,
                index,
                value,
            } => {
                self.change(memory);
                let (index, value) = (self.of(index), self.of(value));
                out.push(Statement::Store {
                    memory,
                    index,
                    value,
                });
            }
            Statement::Barrier => {
                self.change_all(&[Statement::Barrier]);
                out.push(Statement::Barrier);
            }
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                let condition = self.of(condition);
                let before = self.ages.clone();
                let then = self.block(then);
                self.ages = before.clone();
                let otherwise = self.block(otherwise);
                self.ages = before;
                self.change_all(&then);
                self.change_all(&otherwise);
                let results = results
                    .into_iter()
                    .map(|(value, yes, no)| (value, self.of(yes), self.of(no)));
                out.push(Statement::If {
                    condition,
                    results: results.collect(),
                    then,
                    otherwise,
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
                let (start, end) = (self.of(start), self.of(end));
                self.change_all(&body);
                let body = self.block(body);
                self.change_all(&body);
                let carried = carried.into_iter().map(|each| Carried {
                    initial: self.of(each.initial),
                    next: self.of(each.next),
                    ..each
                });
                out.push(Statement::For {
                    counter,
                    start,
                    end,
                    step,
                    carried: carried.collect(),
                    body,
                });
            }
        }
    }

    fn change(&mut self, memory: Memory) {
        self.last_age += 1;
        self.ages.insert(memory, self.last_age);
    }

    /// Whatever the statements store to may have changed.
    fn change_all(&mut self, block: &[Statement]) {
        for statement in block {
            match statement {
                Statement::Let(..) => {}
                Statement::Store { memory, .. } => self.change(*memory),
                Statement::Barrier => {
                    for number in 0..self.kernel.shared.len() as u32 {
                        self.change(Memory::Shared(crate::kernel::SharedId(number)));
                    }
                }
                Statement::If {
                    then, otherwise, ..
                } => {
                    self.change_all(then);
                    self.change_all(otherwise);
                }
                Statement::For { body, .. } => self.change_all(body),
            }
        }
    }

    /// Equal for equal expressions.
    fn key(&self, value: Value, expression: &Expression) -> String {
        let ty = self.kernel.type_of(value);
        match expression {
            Expression::Binary(
                function @ (Binary::Add
                | Binary::Mul
                | Binary::And
                | Binary::Or
                | Binary::Xor
                | Binary::Equal),
                a,
                b,
            ) => {
                let ordered = Expression::Binary(*function, *a.min(b), *a.max(b));
                format!("{ordered}: {ty}")
            }
            Expression::Load(memory, _) => {
                let age = self.ages.get(memory).copied().unwrap_or(0);
                format!("{expression} {age}: {ty}")
            }
            Expression::Constant(_)
            | Expression::Builtin(_)
            | Expression::Unary(..)
            | Expression::Binary(..)
            | Expression::Fma(..)
            | Expression::Select(..)
            | Expression::Convert(..)
            | Expression::Bits(..)
            | Expression::Splat(..)
            | Expression::Extract(..)
            | Expression::ExtractAt(..)
            | Expression::Compose(_)
            | Expression::Unpack(_)
            | Expression::Pack(_) => format!("{expression}: {ty}"),
        }
    }
}
