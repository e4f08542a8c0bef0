//! Which values are the same for all invocations of a workgroup.
//!
//! Takes a kernel whose values are defined and typed, gives one truth per value. Numbers, the
//! workgroup's place, and functions of uniform values are uniform; so is what a uniform index finds
//! in a buffer that the kernel never stores to. The largest such set is found by going through
//! the body until nothing changes. It executes nothing.

use crate::kernel::{Builtin, Expression, Kernel, Memory, Statement, Value};

/// Whether each value, by number, is uniform.
pub fn uniform_values(kernel: &Kernel) -> Vec<bool> {
    let mut state = State {
        kernel,
        uniform: vec![true; kernel.types.len()],
        changed: true,
    };
    while state.changed {
        state.changed = false;
        state.block(&kernel.body);
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

    fn block(&mut self, block: &[Statement]) {
        for statement in block {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Let(value, expression) => {
                let uniform = self.expression(expression);
                self.set(*value, uniform);
            }
            Statement::Store { .. } | Statement::Barrier => {}
            Statement::If {
                condition,
                then,
                otherwise,
                results,
            } => {
                self.block(then);
                self.block(otherwise);
                for (value, yes, no) in results {
                    let uniform = self.is(*condition) && self.is(*yes) && self.is(*no);
                    self.set(*value, uniform);
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
                self.set(*counter, self.is(*start));
                for each in carried {
                    self.set(each.value, self.is(each.initial) && self.is(each.next));
                }
                self.block(body);
                let together = self.is(*start) && self.is(*end);
                for each in carried {
                    self.set(each.value, self.is(each.initial) && self.is(each.next));
                    self.set(each.result, together && self.is(each.value));
                }
            }
        }
    }

    fn expression(&self, expression: &Expression) -> bool {
        let own = match expression {
            Expression::Builtin(Builtin::Local) | Expression::Load(Memory::Shared(_), _) => false,
            Expression::Load(Memory::Buffer(buffer), _) => {
                !self.kernel.buffers[buffer.0 as usize].written
            }
            Expression::Constant(_)
            | Expression::Builtin(Builtin::Group(_))
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
            | Expression::Pack(_) => true,
        };
        let mut uniform = own;
        expression.each_operand(|operand| uniform &= self.is(operand));
        uniform
    }
}
