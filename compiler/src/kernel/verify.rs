//! The rules of kernels, numbered in the card of [`crate::kernel`].
//!
//! Takes a kernel, gives the first rule that it breaks. What passes here printers and the
//! interpreter may trust.

use crate::kernel::declared::check_declared;
use crate::kernel::error::{KernelError, error};
use crate::kernel::typing::{self, Misfit};
use crate::kernel::walk::each_statement;
use crate::kernel::{
    Branch, CHUNK_BYTES, Carried, ChunkCopy, Expression, Kernel, Loop, Memory, Scalar, SharedId,
    Statement, Type, Value, WARP, uniform_values,
};
use crate::target::Limits;

/// Checks all rules.
///
/// # Errors
/// With the first rule that is broken.
pub fn verify(kernel: &Kernel, limits: &Limits) -> Result<(), KernelError> {
    check_declared(kernel, limits)?;
    let mut state = State {
        kernel,
        defined: vec![false; kernel.types.len()],
        in_scope: vec![false; kernel.types.len()],
        stored: vec![false; kernel.shared.len()],
    };
    state.block(&kernel.body, &mut Vec::new())?;
    check_warps(kernel, limits)?;
    let uniform = uniform_values(kernel);
    check_barriers(kernel, &uniform, &kernel.body, None)
}

/// K9, but for conditions, and K10 of copies.
fn check_warps(kernel: &Kernel, limits: &Limits) -> Result<(), KernelError> {
    let has_warps = limits.warp == WARP;
    let whole = has_warps && kernel.invocations.is_multiple_of(WARP);
    let mut wrong = None;
    each_statement(&kernel.body, &mut |statement| {
        let broken = match statement {
            Statement::Let(_, expression) if expression.is_of_warps() && !whole => "K9",
            Statement::Copy(_) | Statement::Commit | Statement::Wait(_) if !has_warps => "K10",
            _ => return,
        };
        wrong.get_or_insert_with(|| (broken, kernel.line(statement)));
    });
    let Some((rule, line)) = wrong else {
        return Ok(());
    };
    let found = format!(
        "{} invocations, warps of {}",
        kernel.invocations, limits.warp
    );
    Err(error(rule, kernel, line, found, "whole warps of 32"))
}

/// K1, K2, K3, K5 and K7.
struct State<'a> {
    kernel: &'a Kernel,
    /// By value: whether some statement before this one defines it.
    defined: Vec<bool>,
    /// By value: whether it may be used here.
    in_scope: Vec<bool>,
    /// By shared memory: whether some statement before this one stores to it.
    stored: Vec<bool>,
}

impl State<'_> {
    fn error(
        &self,
        rule: &'static str,
        statement: &Statement,
        found: impl ToString,
        wanted: &'static str,
    ) -> KernelError {
        error(
            rule,
            self.kernel,
            self.kernel.line(statement),
            found,
            wanted,
        )
    }

    /// Checks the statements; `scope` gets what they define, which stays usable.
    fn block(&mut self, block: &[Statement], scope: &mut Vec<Value>) -> Result<(), KernelError> {
        for statement in block {
            self.statement(statement, scope)?;
        }
        Ok(())
    }

    fn leave(&mut self, scope: &[Value]) {
        for value in scope {
            self.in_scope[value.0 as usize] = false;
        }
    }

    fn uses(&self, statement: &Statement, value: Value) -> Result<(), KernelError> {
        match self.in_scope.get(value.0 as usize) {
            Some(true) => Ok(()),
            Some(false) | None => {
                let wanted = "a value defined before, in this block or one around it";
                Err(self.error("K1", statement, value, wanted))
            }
        }
    }

    fn defines(
        &mut self,
        statement: &Statement,
        value: Value,
        scope: &mut Vec<Value>,
    ) -> Result<(), KernelError> {
        let number = value.0 as usize;
        match self.defined.get(number) {
            Some(false) => {
                self.defined[number] = true;
                self.in_scope[number] = true;
                scope.push(value);
                Ok(())
            }
            Some(true) | None => {
                let wanted = "a value of the kernel that nothing else defines";
                Err(self.error("K1", statement, value, wanted))
            }
        }
    }

    fn has_type(
        &self,
        rule: &'static str,
        statement: &Statement,
        value: Value,
        (ty, wanted): (Type, &'static str),
    ) -> Result<(), KernelError> {
        match self.kernel.type_of(value) {
            found if found == ty => Ok(()),
            found => {
                let found = format!("{value}: {found} beside {ty}");
                Err(self.error(rule, statement, found, wanted))
            }
        }
    }

    fn memory(&self, statement: &Statement, memory: Memory) -> Result<Type, KernelError> {
        typing::element(self.kernel, memory)
            .ok_or_else(|| self.error("K3", statement, memory, "a memory of the kernel"))
    }

    fn statement(
        &mut self,
        statement: &Statement,
        scope: &mut Vec<Value>,
    ) -> Result<(), KernelError> {
        match statement {
            Statement::Let(value, expression) => {
                self.expression(statement, expression)?;
                let Misfit { found, wanted } = match typing::infer(self.kernel, expression) {
                    Ok(ty) => {
                        self.defines(statement, *value, scope)?;
                        let is_load = matches!(expression, Expression::Load(..));
                        let rule = if is_load { "K3" } else { "K2" };
                        let wanted = "the type of the expression";
                        return self.has_type(rule, statement, *value, (ty, wanted));
                    }
                    Err(misfit) => misfit,
                };
                Err(self.error("K2", statement, found, wanted))
            }
            Statement::Store {
                memory,
                index,
                value,
            } => self.store(statement, *memory, [*index, *value]),
            Statement::Copy(copy) => self.copy(statement, copy),
            Statement::Barrier | Statement::Commit | Statement::Wait(_) => Ok(()),
            Statement::If(branch) => self.branch(statement, branch, scope),
            Statement::For(repeat) => self.repeat(statement, repeat, scope),
        }
    }

    fn expression(
        &self,
        statement: &Statement,
        expression: &Expression,
    ) -> Result<(), KernelError> {
        let mut operands = Ok(());
        expression.each_operand(|operand| {
            if operands.is_ok() {
                operands = self.uses(statement, operand);
            }
        });
        operands?;
        match expression {
            Expression::Load(memory, _) => self.is_loaded(statement, *memory),
            Expression::LoadMatrix(load) => {
                self.chunks(statement, load.shared)?;
                self.is_loaded(statement, Memory::Shared(load.shared))
            }
            _ => Ok(()),
        }
    }

    /// K3 and K7.
    fn is_loaded(&self, statement: &Statement, memory: Memory) -> Result<(), KernelError> {
        self.memory(statement, memory)?;
        match memory {
            Memory::Shared(shared) if !self.stored[self.kernel.owner(shared).0 as usize] => {
                Err(self.error("K7", statement, memory, "a memory stored to before"))
            }
            Memory::Shared(_) | Memory::Buffer(_) => Ok(()),
        }
    }

    /// K10: elements of 16 bytes.
    fn chunks(&self, statement: &Statement, shared: SharedId) -> Result<(), KernelError> {
        let element = self.memory(statement, Memory::Shared(shared))?;
        match element.bytes() {
            CHUNK_BYTES => Ok(()),
            _ => Err(self.error("K10", statement, element, "elements of 16 bytes")),
        }
    }

    /// K2, K3 and K10 of a copy.
    fn copy(&mut self, statement: &Statement, copy: &ChunkCopy) -> Result<(), KernelError> {
        let (i32, bool) = (Type::one(Scalar::I32), Type::one(Scalar::Bool));
        for (value, ty) in [
            (copy.place, (i32, "an index as i32")),
            (copy.index, (i32, "an index as i32")),
            (copy.holds, (bool, "a bool of one lane")),
        ] {
            self.uses(statement, value)?;
            self.has_type("K2", statement, value, ty)?;
        }
        self.chunks(statement, copy.shared)?;
        self.memory(statement, Memory::Buffer(copy.buffer))?;
        self.stored[self.kernel.owner(copy.shared).0 as usize] = true;
        Ok(())
    }

    fn store(
        &mut self,
        statement: &Statement,
        memory: Memory,
        [index, value]: [Value; 2],
    ) -> Result<(), KernelError> {
        self.uses(statement, index)?;
        self.uses(statement, value)?;
        let element = self.memory(statement, memory)?;
        let i32 = Type::one(Scalar::I32);
        self.has_type("K2", statement, index, (i32, "an index as i32"))?;
        let wanted = "the memory's element";
        self.has_type("K3", statement, value, (element, wanted))?;
        match memory {
            Memory::Shared(shared) => {
                self.stored[self.kernel.owner(shared).0 as usize] = true;
            }
            Memory::Buffer(buffer) if self.kernel.buffers[buffer.0 as usize].written => {}
            Memory::Buffer(_) => {
                let wanted = "a buffer declared as written";
                return Err(self.error("K3", statement, memory, wanted));
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        statement: &Statement,
        branch: &Branch,
        scope: &mut Vec<Value>,
    ) -> Result<(), KernelError> {
        self.uses(statement, branch.condition)?;
        let bool = Type::one(Scalar::Bool);
        let wanted = "a bool of one lane";
        self.has_type("K2", statement, branch.condition, (bool, wanted))?;
        for (block, is_then) in [(&branch.then, true), (&branch.otherwise, false)] {
            let mut inner = Vec::new();
            self.block(block, &mut inner)?;
            for (_, yes, no) in &branch.results {
                self.uses(statement, if is_then { *yes } else { *no })?;
            }
            self.leave(&inner);
        }
        for (value, yes, no) in &branch.results {
            self.defines(statement, *value, scope)?;
            for given in [yes, no] {
                let ty = self.kernel.type_of(*value);
                let wanted = "the type of what the branches give";
                self.has_type("K5", statement, *given, (ty, wanted))?;
            }
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        statement: &Statement,
        repeat: &Loop,
        scope: &mut Vec<Value>,
    ) -> Result<(), KernelError> {
        let Loop {
            counter, carried, ..
        } = repeat;
        if repeat.step < 1 {
            return Err(self.error("K5", statement, repeat.step, "a step above 0"));
        }
        let i32 = Type::one(Scalar::I32);
        for bound in [repeat.start, repeat.end] {
            self.uses(statement, bound)?;
            self.has_type("K2", statement, bound, (i32, "a bound as i32"))?;
        }
        let mut inner = Vec::new();
        self.defines(statement, *counter, &mut inner)?;
        self.has_type("K2", statement, *counter, (i32, "a counter as i32"))?;
        for each in carried {
            self.uses(statement, each.initial)?;
        }
        for each in carried {
            self.defines(statement, each.value, &mut inner)?;
        }
        self.block(&repeat.body, &mut inner)?;
        for each in carried {
            self.uses(statement, each.next)?;
        }
        self.leave(&inner);
        for each in carried {
            let Carried {
                initial,
                value,
                next,
                result,
            } = *each;
            self.defines(statement, result, scope)?;
            let ty = self.kernel.type_of(value);
            for other in [initial, next, result] {
                let wanted = "the type of what is carried";
                self.has_type("K5", statement, other, (ty, wanted))?;
            }
        }
        Ok(())
    }
}

/// K4; `divided` is the innermost statement around the block that parts the invocations.
fn check_barriers<'a>(
    kernel: &Kernel,
    uniform: &[bool],
    block: &'a [Statement],
    divided: Option<&'a Statement>,
) -> Result<(), KernelError> {
    let is = |value: Value| uniform[value.0 as usize];
    for statement in block {
        let divides = match statement {
            Statement::Let(_, expression) if expression.is_of_warps() => {
                let Some(around) = divided else { continue };
                let found = "a function of warps that not all may reach";
                let wanted = "conditions and bounds that are uniform";
                return Err(error("K9", kernel, kernel.line(around), found, wanted));
            }
            Statement::Let(..)
            | Statement::Store { .. }
            | Statement::Copy(_)
            | Statement::Commit
            | Statement::Wait(_) => continue,
            Statement::Barrier => {
                let Some(around) = divided else { continue };
                let found = "a barrier that not all may reach";
                let wanted = "conditions and bounds that are uniform";
                return Err(error("K4", kernel, kernel.line(around), found, wanted));
            }
            Statement::If(branch) => !is(branch.condition),
            Statement::For(repeat) => !(is(repeat.start) && is(repeat.end)),
        };
        let inner = divided.or(divides.then_some(statement));
        for block in statement.blocks() {
            check_barriers(kernel, uniform, block, inner)?;
        }
    }
    Ok(())
}
