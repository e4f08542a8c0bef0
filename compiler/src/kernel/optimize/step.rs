//! Turns products with the counter of a loop into sums from turn to turn.
//!
//! Takes a kernel; in a loop, `(counter · a + b) · c` becomes a carried value that grows by
//! `step · a · c`, together with what is added to it next where that is its only use. What is
//! multiplied by powers of two is a shift by now and stays: a shift costs no more than a sum. Not
//! more than a few values are carried, for each takes a register. Integers wrap, so both are equal.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::walk::each_statement;
use crate::kernel::{
    Binary, Carried, Constant, Expression, Kernel, Loop, Scalar, Statement, Type, Value,
};

/// Values that this pass carries through one loop at most: registers are few.
const CARRIED_MAX: usize = 8;

/// The pass.
pub(super) fn step(mut kernel: Kernel) -> Kernel {
    let mut state = State {
        types: std::mem::take(&mut kernel.types),
        known: BTreeMap::new(),
        uses: Vec::new(),
    };
    state.uses = vec![0; state.types.len()];
    each_statement(&kernel.body, &mut |statement| {
        statement.each_use(|value| state.tell(value));
    });
    kernel.body = state.block(std::mem::take(&mut kernel.body));
    kernel.types = state.types;
    kernel
}

struct State {
    types: Vec<Type>,
    /// The integers that are known.
    known: BTreeMap<Value, i32>,
    /// By value: how often it is used.
    uses: Vec<u32>,
}

impl State {
    fn tell(&mut self, value: Value) {
        self.uses[value.0 as usize] += 1;
    }

    fn fresh(&mut self) -> Value {
        self.types.push(Type::one(Scalar::I32));
        self.uses.push(0);
        Value(self.types.len() as u32 - 1)
    }

    fn define(&mut self, expression: Expression, out: &mut Vec<Statement>) -> Value {
        expression.each_operand(|operand| self.tell(operand));
        let value = self.fresh();
        out.push(Statement::Let(value, expression));
        value
    }

    fn constant(&mut self, number: i32, out: &mut Vec<Statement>) -> Value {
        let value = self.define(Expression::Constant(Constant::I32(number)), out);
        self.known.insert(value, number);
        value
    }

    fn block(&mut self, block: Vec<Statement>) -> Vec<Statement> {
        let mut out = Vec::with_capacity(block.len());
        for statement in block {
            let mut statement = statement.with_blocks(|block| self.block(block));
            if let Statement::Let(value, Expression::Constant(Constant::I32(number))) = &statement {
                self.known.insert(*value, *number);
            }
            if let Statement::For(repeat) = &mut statement {
                self.carry(repeat, &mut out);
            }
            out.push(statement);
        }
        out
    }

    /// Carries what grows with the counter; what it is in the first iteration goes to `out`.
    fn carry(&mut self, repeat: &mut Loop, out: &mut Vec<Statement>) {
        let turn = Turn::of(repeat);
        let (grown, roots) = self.roots(&turn, &repeat.body);
        let firsts = self.firsts(&turn, repeat.start, &roots, &repeat.body, out);
        repeat.body.retain(
            |statement| !matches!(statement, Statement::Let(value, _) if roots.contains(value)),
        );
        for (root, initial) in roots.into_iter().zip(firsts) {
            let growth = self.constant(grown[&root].wrapping_mul(repeat.step), out);
            let next = Expression::Binary(Binary::Add, root, growth);
            repeat.carried.push(Carried {
                initial,
                value: root,
                next: self.define(next, &mut repeat.body),
                result: self.fresh(),
            });
        }
    }

    /// What the values of a turn grow by when the counter grows by 1, and which of them to carry.
    fn roots(&self, turn: &Turn, body: &[Statement]) -> (BTreeMap<Value, i32>, Vec<Value>) {
        let mut grown = BTreeMap::from([(turn.counter, 1)]);
        let mut roots: Vec<Value> = Vec::new();
        for statement in body {
            let Statement::Let(value, Expression::Binary(function, a, b)) = statement else {
                continue;
            };
            let Some(growth) = self.growth(turn, &grown, *function, [*a, *b]) else {
                continue;
            };
            grown.insert(*value, growth);
            let mut absorbs = false;
            roots.retain(|root| {
                let once = [a, b].contains(&root) && self.uses[root.0 as usize] == 1;
                absorbs |= once;
                !once
            });
            if absorbs || *function == Binary::Mul {
                roots.push(*value);
            }
        }
        roots.truncate(CARRIED_MAX);
        (grown, roots)
    }

    fn growth(
        &self,
        turn: &Turn,
        grown: &BTreeMap<Value, i32>,
        function: Binary,
        [a, b]: [Value; 2],
    ) -> Option<i32> {
        let known = |value: Value| self.known.get(&value).copied();
        let still =
            |value: Value| (!turn.inside.contains(&value) || known(value).is_some()).then_some(0);
        let of = |value: Value| grown.get(&value).copied().or_else(|| still(value));
        let growth = match function {
            Binary::Add => of(a)?.wrapping_add(of(b)?),
            Binary::Sub => of(a)?.wrapping_sub(of(b)?),
            Binary::Mul => match (known(a), known(b)) {
                (_, Some(by)) => of(a)?.wrapping_mul(by),
                (Some(by), None) => of(b)?.wrapping_mul(by),
                (None, None) => return None,
            },
            Binary::ShiftLeft => of(a)?.checked_shl(u32::try_from(known(b)?).ok()?)?,
            Binary::Div | Binary::Rem | Binary::Min | Binary::Max | Binary::Pow => return None,
            Binary::And | Binary::Or | Binary::Xor | Binary::ShiftRight => return None,
            Binary::Less | Binary::LessEqual | Binary::Equal => return None,
        };
        (growth != 0).then_some(growth)
    }

    /// What the roots are in the first turn.
    fn firsts(
        &mut self,
        turn: &Turn,
        start: Value,
        roots: &[Value],
        body: &[Statement],
        out: &mut Vec<Statement>,
    ) -> Vec<Value> {
        let mut needed: BTreeSet<Value> = roots.iter().copied().collect();
        for statement in body.iter().rev() {
            if let Statement::Let(value, expression) = statement
                && needed.contains(value)
            {
                expression.each_operand(|operand| {
                    needed.insert(operand);
                });
            }
        }
        let mut firsts = BTreeMap::from([(turn.counter, start)]);
        for statement in body {
            if let Statement::Let(value, expression) = statement
                && needed.contains(value)
            {
                let first = |operand| firsts.get(&operand).copied().unwrap_or(operand);
                let expression = expression.with_operands(first);
                let first = self.define(expression, out);
                if let Some(&number) = self.known.get(value) {
                    self.known.insert(first, number);
                }
                firsts.insert(*value, first);
            }
        }
        roots.iter().map(|root| firsts[root]).collect()
    }
}

/// One loop.
struct Turn {
    counter: Value,
    /// What it defines in its own block.
    inside: BTreeSet<Value>,
}

impl Turn {
    /// Nothing outside of inner blocks sees what they define: those need not be told.
    fn of(repeat: &Loop) -> Turn {
        let values = repeat.carried.iter().map(|each| each.value);
        let mut inside: BTreeSet<Value> = values.chain([repeat.counter]).collect();
        for statement in &repeat.body {
            statement.each_definition(|value| {
                inside.insert(value);
            });
        }
        let counter = repeat.counter;
        Turn { counter, inside }
    }
}
