//! The CPU: executes a bound function operator by operator.
//!
//! Takes a function whose sizes are known and its weights, gives an [`Executor`] that maps inputs
//! to results. f32 weights stay where they lie, in a mapped file too; other float types are widened
//! once. Values are freed after their last use. It fuses nothing and plans nothing: every operator
//! is one kernel, or the oracle itself where speed does not matter.

mod attention;
mod ceilings;
mod contract;
mod conv;
mod gemm;
mod kernel;
mod kernels;
mod math;
mod movement;
mod pointwise;
mod rows;
#[cfg(test)]
mod tests;
mod threads;
mod value;

use std::collections::BTreeMap;

use thiserror::Error;

use compiler::DType;
use compiler::eval::{EvalError, last_uses};
use compiler::graph::{self, Definition, Func, Role, TensorType};
use compiler::ops::{Extents, Op};
use compiler::tensor::Tensor;

pub use ceilings::{Ceilings, measure};
use threads::Threads;
use value::Value;

/// Why a function cannot be executed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExecuteError {
    /// A parameter is not as the function declares it, a size is not bound, or an operator met
    /// data outside of its domain.
    #[error(transparent)]
    Graph(#[from] EvalError),
    /// The operating system gives no threads.
    #[error("cannot start {wanted} threads: {reason}")]
    Threads {
        /// The number wanted; 0 for one per core.
        wanted: usize,
        /// What the system says.
        reason: String,
    },
}

/// What this machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The architecture, such as `x86_64`.
    pub architecture: &'static str,
    /// The vector instruction sets found at run time that kernels use, widest last.
    pub instruction_sets: Vec<&'static str>,
    /// Threads that can run at the same time.
    pub threads: usize,
}

/// What this machine offers.
pub fn describe() -> Description {
    Description {
        architecture: std::env::consts::ARCH,
        instruction_sets: math::instruction_sets(),
        threads: threads::available(),
    }
}

/// A clock: seconds since a moment that does not change. Rooms below the command have none of
/// their own.
pub type Clock<'a> = &'a (dyn Fn() -> f64 + Sync);

/// The time that one value took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueTime {
    /// The value; for a parameter the time is that of fetching what was given for it.
    pub value: graph::Value,
    /// From the value before to this one, so that all of them add up to the run.
    pub seconds: f64,
}

/// A function ready to run: weights checked and widened, constants and sizes known.
#[derive(Debug)]
pub struct Executor {
    func: Func,
    /// Extents of every value.
    extents: Vec<Extents>,
    /// Weights and constants, which outlive a run.
    fixed: Vec<Option<Value>>,
    last_uses: Vec<u32>,
    threads: Threads,
}

impl Executor {
    /// Prepares `func` with its `weights`, by name; they may be stored in another float type than
    /// the function declares. Runs on `threads` threads, or one per core.
    ///
    /// # Errors
    /// When a weight is missing or of another shape, a size is not bound, or threads cannot start.
    pub fn new(
        func: &Func,
        weights: &BTreeMap<String, Tensor>,
        threads: Option<usize>,
    ) -> Result<Executor, ExecuteError> {
        let threads = Threads::new(threads)?;
        let mut extents = Vec::with_capacity(func.values().len());
        let mut fixed = Vec::with_capacity(func.values().len());
        for (_, data) in func.values() {
            let (name, value) = match &data.definition {
                Definition::Param(param) => match param.role {
                    Role::Input => (param.name.as_str(), None),
                    Role::Weight => {
                        let given = weights.get(&param.name);
                        let tensor = check(Role::Weight, &param.name, &data.ty, given, true)?;
                        let value = threads.install(|| Value::load(tensor, data.ty.dtype));
                        (param.name.as_str(), Some(value))
                    }
                },
                Definition::Node(node) => match &node.op {
                    Op::Constant(op) => {
                        let value = threads.install(|| Value::load(&op.tensor, data.ty.dtype));
                        (node.op.name(), Some(value))
                    }
                    other => (other.name(), None),
                },
            };
            let shape = data.ty.extents().ok_or_else(|| EvalError::Unbound {
                op: name.to_owned(),
                origin: data.origin.clone(),
                ty: data.ty.clone(),
            })?;
            let dtype = data.ty.dtype;
            extents.push(Extents { dtype, shape });
            fixed.push(value);
        }
        Ok(Executor {
            last_uses: last_uses(func),
            func: func.clone(),
            extents,
            fixed,
            threads,
        })
    }

    /// Executes the function on `inputs`, by name; gives its results in order.
    ///
    /// # Errors
    /// When an input is missing or of another type, or an operator meets data outside of its
    /// domain.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, ExecuteError> {
        self.threads.install(|| self.execute(inputs, &mut |_| {}))
    }

    /// As [`Executor::run`]; gives the time that each value took, in order, and no results.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        clock: Clock<'_>,
    ) -> Result<Vec<ValueTime>, ExecuteError> {
        let mut times = Vec::with_capacity(self.extents.len());
        self.threads.install(|| {
            let mut before = clock();
            self.execute(inputs, &mut |value| {
                let now = clock();
                let seconds = now - before;
                times.push(ValueTime { value, seconds });
                before = now;
            })
        })?;
        Ok(times)
    }

    /// Executes the function; tells `observe` of each value when it is there.
    fn execute(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        observe: &mut (dyn FnMut(graph::Value) + Send),
    ) -> Result<Vec<(String, Tensor)>, ExecuteError> {
        let mut values: Vec<Option<Value>> = Vec::with_capacity(self.extents.len());
        for (value, data) in self.func.values() {
            let index = value.0 as usize;
            let computed = match (&self.fixed[index], &data.definition) {
                (Some(fixed), _) => fixed.clone(),
                (None, Definition::Param(param)) => {
                    let given = inputs.get(&param.name);
                    let tensor = check(param.role, &param.name, &data.ty, given, false)?;
                    Value::load(tensor, data.ty.dtype)
                }
                (None, Definition::Node(node)) => {
                    let operands = node.operands.iter().map(|operand| {
                        let operand = values[operand.0 as usize].clone();
                        operand.expect("operands come first and live until their last use")
                    });
                    let operands: Vec<Value> = operands.collect();
                    for operand in &node.operands {
                        if self.last_uses[operand.0 as usize] == value.0 {
                            values[operand.0 as usize] = None;
                        }
                    }
                    let result = &self.extents[index];
                    kernels::apply(&node.op, operands, result).map_err(|fault| {
                        EvalError::Fault {
                            op: node.op.name(),
                            origin: data.origin.clone(),
                            fault,
                        }
                    })?
                }
            };
            // A parameter or a node that nothing uses dies at once.
            values.push((self.last_uses[index] > value.0).then_some(computed));
            observe(value);
        }
        let results = self.func.results().iter();
        let result = |(name, value): &(String, graph::Value)| {
            let index = value.0 as usize;
            let found = values[index].as_ref().expect("results live to the end");
            (name.clone(), found.tensor(&self.extents[index]))
        };
        Ok(results.map(result).collect())
    }
}

/// The tensor given for a parameter, if it has the parameter's shape and element type, or another
/// float type where `widening`.
fn check<'a>(
    role: Role,
    name: &str,
    wanted: &TensorType,
    given: Option<&'a Tensor>,
    widening: bool,
) -> Result<&'a Tensor, EvalError> {
    let Some(tensor) = given else {
        let (name, ty) = (name.to_owned(), wanted.clone());
        return Err(EvalError::Missing { role, name, ty });
    };
    let found = TensorType::of(tensor);
    let floats = |a: DType, b: DType| a.is_float() && b.is_float();
    let fits = found.dtype == wanted.dtype || (widening && floats(found.dtype, wanted.dtype));
    if !fits || found.shape != wanted.shape {
        let (name, wanted) = (name.to_owned(), wanted.clone());
        return Err(EvalError::Type {
            role,
            name,
            found,
            wanted,
        });
    }
    Ok(tensor)
}
