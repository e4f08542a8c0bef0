//! Computes once what is computed twice.
//!
//! Takes a kernel; an expression that was computed before, in the same block or one around it, is
//! that value again. A load is the same while nothing is stored to its memory between, and, of
//! shared memory, no barrier stands between. It moves nothing.

use std::collections::HashMap;

use crate::kernel::walk::each_statement;
use crate::kernel::{Binary, Expression, Kernel, Memory, SharedId, Statement, Value};

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
        let statement = match statement {
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
                return;
            }
            // What an iteration stores may be loaded in the next.
            Statement::For(repeat) => {
                self.change_all(&repeat.body);
                Statement::For(repeat)
            }
            Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_)
            | Statement::If(_) => statement,
        };
        let before = self.ages.clone();
        let statement = statement.with_blocks(|block| {
            self.ages.clone_from(&before);
            self.block(block)
        });
        self.ages = before;
        self.change_all(std::slice::from_ref(&statement));
        out.push(statement.with_uses(|value| self.of(value)));
    }

    /// Elements of a memory have changed: of shared memory also in what is over the same bytes.
    fn change(&mut self, memory: Memory) {
        self.last_age += 1;
        self.ages.insert(self.owner(memory), self.last_age);
    }

    fn owner(&self, memory: Memory) -> Memory {
        match memory {
            Memory::Buffer(_) => memory,
            Memory::Shared(shared) => Memory::Shared(self.kernel.owner(shared)),
        }
    }

    /// Whatever the statements store to may have changed.
    fn change_all(&mut self, block: &[Statement]) {
        each_statement(block, &mut |statement| match statement {
            Statement::Store { memory, .. } => self.change(*memory),
            Statement::Copy(copy) => self.change(Memory::Shared(copy.shared)),
            Statement::Barrier | Statement::Wait(_) => {
                for number in 0..self.kernel.shared.len() as u32 {
                    self.change(Memory::Shared(SharedId(number)));
                }
            }
            Statement::Let(..) | Statement::Commit | Statement::If(_) | Statement::For(_) => {}
        });
    }

    /// Equal for equal expressions.
    fn key(&self, value: Value, expression: &Expression) -> String {
        let ty = self.kernel.type_of(value);
        let loaded = match expression {
            Expression::Load(memory, _) => Some(*memory),
            Expression::LoadMatrix(load) => Some(Memory::Shared(load.shared)),
            _ => None,
        };
        if let Some(memory) = loaded {
            let age = self.ages.get(&self.owner(memory)).copied().unwrap_or(0);
            return format!("{expression} {age}: {ty}");
        }
        if let Expression::Binary(function, a, b) = expression
            // Of 0 and -0 either may be the smaller one.
            && function.commutes()
            && !matches!(function, Binary::Min | Binary::Max)
        {
            let ordered = Expression::Binary(*function, *a.min(b), *a.max(b));
            return format!("{ordered}: {ty}");
        }
        format!("{expression}: {ty}")
    }
}
