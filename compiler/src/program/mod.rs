//! Programs: functions bound to sizes, simplified, verified, formed into regions and planned, ready
//! for a backend; and the plain data that the rooms on either side of the compiler agree on.
//!
//! `graphs` makes functions and tables, `runtime` executes programs and obeys tables, `cli`
//! hands them over.

use thiserror::Error;

use crate::graph::text::{self, ParseError};
use crate::graph::verify::{VerifyError, check_func, verify};
use crate::graph::{Definition, Func, GraphError, Module, Role, TensorType};
use crate::passes::{self, PassError, Patch};
use crate::plan::{Plan, PlanError, Recomputation, plan_regions, recompute};
use crate::region::{FormError, Formed, Regions, form};
use crate::target::{Limits, Target};
use crate::value::dim::Bindings;

pub mod sampler;

/// A function that a backend can execute: every size is known, every rule holds, regions cover it,
/// and every buffer has its place in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    func: Func,
    formed: Formed,
    plan: Plan,
}

/// What a program costs beside the memory of its plan, known before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Operators, parameters and constants not counted.
    pub nodes: usize,
    /// Bytes of the weights in the types that the program computes with.
    pub weight_bytes: u64,
    /// Number of weight elements.
    pub parameters: u64,
    /// Floating-point operations of one run, a multiply-add counted as two.
    pub flops: u64,
}

/// Why there is no program.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Sizes are missing.
    #[error("sizes {symbols:?} of {func:?} are not bound")]
    Unbound {
        /// The function.
        func: String,
        /// The symbols left.
        symbols: Vec<String>,
    },
    /// A constraint fails for these sizes.
    #[error("{func:?} cannot be bound to these sizes: {error}")]
    Bind {
        /// The function.
        func: String,
        /// The constraint.
        error: GraphError,
    },
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The function breaks a rule of the graph IR.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The function has no regions.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The buffers do not fit in memory.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The text is not a program.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The text holds another number of functions than one.
    #[error("the text holds {found} functions, wanted 1")]
    Functions {
        /// Functions found.
        found: usize,
    },
}

/// A program, and what the passes did to make it.
#[derive(Debug)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// The edits of all passes, in order.
    pub patches: Vec<Patch>,
}

/// Binds `func` to sizes, raises exporters' spellings and simplifies.
///
/// # Errors
/// When a symbol is left, a constraint fails for these sizes, or a rule does not hold.
pub fn compile(func: &Func, bindings: &Bindings) -> Result<Compiled, CompileError> {
    let bound = func.bind(bindings).map_err(|error| CompileError::Bind {
        func: func.name().to_owned(),
        error,
    })?;
    let symbols: Vec<String> = bound.symbols().into_iter().collect();
    if !symbols.is_empty() {
        let func = func.name().to_owned();
        return Err(CompileError::Unbound { func, symbols });
    }
    let (module, patches) = passes::optimize(verify(Module { funcs: vec![bound] })?)?;
    let program = Program::new(module.into_inner().funcs.remove(0))?;
    Ok(Compiled { program, patches })
}

impl Program {
    /// The program that executes `func` as it stands.
    ///
    /// # Errors
    /// When a size is not known, a rule of the graph IR does not hold, or memory cannot be planned.
    pub fn new(func: Func) -> Result<Program, CompileError> {
        let symbols: Vec<String> = func.symbols().into_iter().collect();
        if !symbols.is_empty() {
            let func = func.name().to_owned();
            return Err(CompileError::Unbound { func, symbols });
        }
        check_func(&func)?;
        let formed = form(&func)?;
        let plan = plan_regions(&formed.regions, &Limits::NONE)?;
        Ok(Program { func, formed, plan })
    }

    /// The same program in less memory: some buffers are computed again instead of being kept,
    /// until at most `bytes_max` bytes of values are alive at once, or no more can be gained. Which
    /// they are is in the result; results of runs stay equal bit for bit.
    ///
    /// # Errors
    /// When memory cannot be planned.
    pub fn within(
        self,
        bytes_max: u64,
        target: &Target,
    ) -> Result<(Program, Vec<Recomputation>), CompileError> {
        let Program {
            func,
            mut formed,
            plan,
        } = self;
        if plan.peak_bytes() <= bytes_max {
            let program = Program { func, formed, plan };
            return Ok((program, Vec::new()));
        }
        let mut wanted = bytes_max;
        let (recomputed, plan) = loop {
            let recomputed = recompute(&formed.regions, wanted, target);
            let plan = plan_regions(&recomputed.regions, &Limits::NONE)?;
            // What lies between buffers counts too: less must be alive to make up for it.
            let above = plan.peak_bytes().saturating_sub(bytes_max);
            if above == 0 || recomputed.bytes > wanted || wanted < bytes_max / 2 {
                break (recomputed, plan);
            }
            wanted = wanted.saturating_sub(above.max(bytes_max / 100));
        };
        formed.regions = recomputed.regions;
        for refusal in &mut formed.refusals {
            refusal.region = recomputed.places[refusal.region.0 as usize];
        }
        let program = Program { func, formed, plan };
        Ok((program, recomputed.chosen))
    }

    /// The program of a text form, as an artifact stores it.
    ///
    /// # Errors
    /// When the text does not parse or holds anything but one bound function.
    pub fn parse(text: &str) -> Result<Program, CompileError> {
        let mut module = text::parse(text)?;
        match module.funcs.len() {
            1 => Program::new(module.funcs.remove(0)),
            found => Err(CompileError::Functions { found }),
        }
    }

    /// The complete text form.
    pub fn text(&self) -> String {
        text::print_func(&self.func)
    }

    /// The function that the program executes.
    pub fn func(&self) -> &Func {
        &self.func
    }

    /// The name and type of each input, in order.
    pub fn inputs(&self) -> Vec<(String, TensorType)> {
        let inputs = self.func.params(Role::Input);
        inputs
            .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
            .collect()
    }

    /// The name and type of each state, in order.
    pub fn states(&self) -> Vec<(String, TensorType)> {
        let states = self.func.params(Role::State);
        states
            .map(|(_, name, ty)| (name.to_owned(), ty.clone()))
            .collect()
    }

    /// The name and type of each result that a caller gets, in order: no new states.
    pub fn outputs(&self) -> Vec<(String, TensorType)> {
        let is_state = |name: &str| self.func.params(Role::State).any(|(_, own, _)| own == name);
        let results = self.func.results().iter();
        results
            .filter(|(name, _)| !is_state(name))
            .map(|(name, value)| (name.clone(), self.func.ty(*value).clone()))
            .collect()
    }

    /// What its kernels compute, one region each. They are made of the function alone: an artifact
    /// need not store them.
    pub fn regions(&self) -> &Regions {
        &self.formed.regions
    }

    /// The regions with what was fused, and why not more.
    pub fn formed(&self) -> &Formed {
        &self.formed
    }

    /// Where its buffers lie, on a target whose memory is one piece. It is made of the
    /// regions alone.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the program costs.
    pub fn cost(&self) -> Cost {
        cost(&self.func)
    }
}

/// Counts operators, weights and operations.
fn cost(func: &Func) -> Cost {
    let mut cost = Cost {
        nodes: 0,
        weight_bytes: 0,
        parameters: 0,
        flops: 0,
    };
    for (_, data) in func.values() {
        match &data.definition {
            Definition::Param(param) if param.role == Role::Weight => {
                let elements = known(data.ty.elements().known());
                let bytes = elements.saturating_mul(data.ty.dtype.bytes() as u64);
                cost.parameters = cost.parameters.saturating_add(elements);
                cost.weight_bytes = cost.weight_bytes.saturating_add(bytes);
            }
            Definition::Param(_) => {}
            Definition::Node(node) => {
                let operands = node.operands.iter();
                let types: Vec<TensorType> =
                    operands.map(|&operand| func.ty(operand).clone()).collect();
                let flops = known(node.op.flops(&types, &data.ty).known());
                cost.flops = cost.flops.saturating_add(flops);
                cost.nodes += usize::from(!types.is_empty());
            }
        }
    }
    cost
}

/// A count that is known because every size of a program is.
fn known(count: Option<i64>) -> u64 {
    count
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or(0)
}
