//! Computes before a loop what is the same in every turn.
//!
//! Takes a kernel; expressions whose operands come from outside of a loop leave it, the innermost
//! loop first. What may have no value (a quotient by what is not known, an element of a buffer)
//! leaves only a loop that surely runs, and only loads of buffers that the kernel never stores to
//! leave at all. What stands in a branch stays there.

use crate::kernel::compute;
use crate::kernel::{Binary, Expression, Kernel, Memory, Scalar, Statement, Value};

/// The pass.
pub(super) fn hoist(mut kernel: Kernel) -> Kernel {
    let body = std::mem::take(&mut kernel.body);
    let mut state = State {
        kernel: &kernel,
        known: vec![None; kernel.types.len()],
        inside: vec![false; kernel.types.len()],
    };
    let body = state.block(body);
    kernel.body = body;
    kernel
}

struct State<'a> {
    kernel: &'a Kernel,
    /// By value: the word of the integer that it is.
    known: Vec<Option<u32>>,
    /// By value: whether the loop at hand defines it.
    inside: Vec<bool>,
}

impl State<'_> {
    fn block(&mut self, block: Vec<Statement>) -> Vec<Statement> {
        let mut out = Vec::with_capacity(block.len());
        for statement in block {
            match statement {
                Statement::Let(value, expression) => {
                    if let Expression::Constant(constant) = expression {
                        self.known[value.0 as usize] = Some(compute::word(constant));
                    }
                    out.push(Statement::Let(value, expression));
                }
                Statement::Store { .. } | Statement::Barrier => out.push(statement),
                Statement::If {
                    condition,
                    then,
                    otherwise,
                    results,
                } => {
                    let then = self.block(then);
                    let otherwise = self.block(otherwise);
                    out.push(Statement::If {
                        condition,
                        then,
                        otherwise,
                        results,
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
                    let body = self.block(body);
                    let bounds = [start, end].map(|bound| self.known[bound.0 as usize]);
                    let runs = matches!(
                        bounds,
                        [Some(start), Some(end)] if start.cast_signed() < end.cast_signed()
                    );
                    self.mark(&body, true);
                    let own = carried.iter().map(|each| each.value).chain([counter]);
                    own.for_each(|value| self.inside[value.0 as usize] = true);
                    let body = self.leave(body, runs, &mut out);
                    self.mark(&body, false);
                    out.push(Statement::For {
                        counter,
                        start,
                        end,
                        step,
                        carried,
                        body,
                    });
                }
            }
        }
        out
    }

    /// Says of all values that a block itself defines whether they are inside of the loop at hand.
    fn mark(&mut self, block: &[Statement], inside: bool) {
        let mut set = |value: &Value| self.inside[value.0 as usize] = inside;
        for statement in block {
            match statement {
                Statement::Let(value, _) => set(value),
                Statement::Store { .. } | Statement::Barrier => {}
                Statement::If { results, .. } => results.iter().for_each(|(value, ..)| set(value)),
                Statement::For { carried, .. } => {
                    carried.iter().for_each(|each| set(&each.result));
                }
            }
        }
    }

    /// Moves what may leave the loop to `out`; gives the rest.
    fn leave(
        &mut self,
        body: Vec<Statement>,
        runs: bool,
        out: &mut Vec<Statement>,
    ) -> Vec<Statement> {
        let mut rest = Vec::with_capacity(body.len());
        for statement in body {
            match statement {
                Statement::Let(value, expression) if self.leaves(&expression, runs) => {
                    self.inside[value.0 as usize] = false;
                    out.push(Statement::Let(value, expression));
                }
                Statement::Let(..)
                | Statement::Store { .. }
                | Statement::Barrier
                | Statement::If { .. }
                | Statement::For { .. } => rest.push(statement),
            }
        }
        rest
    }

    fn leaves(&self, expression: &Expression, runs: bool) -> bool {
        let mut outside = true;
        expression.each_operand(|operand| outside &= !self.inside[operand.0 as usize]);
        outside
            && match expression {
                Expression::Load(Memory::Shared(_), _) => false,
                Expression::Load(Memory::Buffer(buffer), _) => {
                    runs && !self.kernel.buffers[buffer.0 as usize].written
                }
                Expression::ExtractAt(..) => runs,
                Expression::Binary(Binary::Div | Binary::Rem, _, b)
                    if self.kernel.type_of(*b).scalar != Scalar::F32 =>
                {
                    runs || matches!(self.known[b.0 as usize], Some(1..))
                }
                Expression::Binary(Binary::ShiftLeft | Binary::ShiftRight, _, b) => {
                    runs || matches!(self.known[b.0 as usize], Some(0..32))
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
                | Expression::Compose(_)
                | Expression::Unpack(_)
                | Expression::Pack(_) => true,
            }
    }
}
