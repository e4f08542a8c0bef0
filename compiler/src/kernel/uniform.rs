//! Which values are the same for all invocations of a workgroup.
//!
//! Takes a kernel whose values are defined and typed, gives one truth per value. Numbers, the
//! workgroup's place, and functions of uniform values are uniform; so is what a uniform index finds
//! in a buffer that the kernel never stores to. The largest such set is found by going through
//! the body until nothing changes. It executes nothing.

use crate::kernel::walk::each_statement;
use crate::kernel::{Builtin, Expression, Kernel, Statement, Value};

/// Whether each value, by number, is uniform.
pub fn uniform_values(kernel: &Kernel) -> Vec<bool> {
    let mut state = State {
        kernel,
        uniform: vec![true; kernel.types.len()],
        changed: true,
    };
    while state.changed {
        state.changed = false;
        each_statement(&kernel.body, &mut |statement| state.statement(statement));
    }
    state.uniform
}

struct State<'a> {
    kernel: &'a Kernel,
    uniform: Vec<bool>,
    changed: bool,
}

impl State<'_> {
    fn is(&self, value: Value) -> bool {
        self.uniform[value.0 as usize]
    }

    fn set(&mut self, value: Value, uniform: bool) {
        if self.is(value) && !uniform {
            self.uniform[value.0 as usize] = false;
            self.changed = true;
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, expression) => {
                let uniform = self.expression(expression);
                self.set(*value, uniform);
            }
            Statement::Store { .. }
            | Statement::Barrier
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => {}
            Statement::If(branch) => {
                let condition = self.is(branch.condition);
                for (value, yes, no) in &branch.results {
                    self.set(*value, condition && self.is(*yes) && self.is(*no));
                }
            }
            Statement::For(repeat) => {
                self.set(repeat.counter, self.is(repeat.start));
                let together = self.is(repeat.start) && self.is(repeat.end);
                for each in &repeat.carried {
                    self.set(each.value, self.is(each.initial) && self.is(each.next));
                    self.set(each.result, together && self.is(each.value));
                }
            }
        }
    }

    fn expression(&self, expression: &Expression) -> bool {
        let differs = matches!(
            expression,
            Expression::Builtin(Builtin::Local) | Expression::Mma(..) | Expression::LoadMatrix(_)
        );
        let mut uniform = !differs;
        if let Expression::Load(memory, _) = expression {
            uniform &= !self.kernel.changes(*memory);
        }
        expression.each_operand(|operand| uniform &= self.is(operand));
        uniform
    }
}
