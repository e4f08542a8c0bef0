//! Programs: functions bound to sizes, simplified, verified, formed into regions and planned, ready
//! for a backend; and the plain data that the rooms on either side of the compiler agree on.
//!
//! `graphs` makes functions and tables, `runtime` executes programs and obeys tables, `cli`
//! hands them over.

use std::collections::BTreeMap;
use std::ops::Deref;

use thiserror::Error;

use crate::graph::text::{self, ParseError};
use crate::graph::verify::{VerifyError, check_func, verify};
use crate::graph::{Definition, Func, GraphError, Module, Role, TensorType};
use crate::passes::{self, PassError, Patch};
use crate::plan::{PlanError, Recomputation, Recomputed, recompute};
use crate::region::{FormError, Formed, Refusal, form};
use crate::target::Target;
use crate::value::dim::Bindings;

mod executable;
pub mod pipeline;
pub mod sampler;
pub mod training;
pub mod weight_program;

pub use executable::{Cost, Counts, Executable, ExecutableError};

/// A function that a backend can execute: every size is known, every rule holds, regions cover it,
/// and every buffer has its place in memory. It is an [`Executable`] whose graph is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    func: Func,
    executable: Executable,
    fusions: BTreeMap<&'static str, usize>,
    refusals: Vec<Refusal>,
}

impl Deref for Program {
    type Target = Executable;

    fn deref(&self) -> &Executable {
        &self.executable
    }
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
    /// The regions are not those of the graph.
    #[error("the graph {func:?} has other parameters or results than its regions")]
    Foreign {
        /// The function.
        func: String,
    },
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
        let Formed {
            regions,
            counts,
            refusals,
        } = form(&func)?;
        Ok(Program {
            executable: Executable::new(regions, self::counts(&func))?,
            func,
            fusions: counts,
            refusals,
        })
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
        if self.plan().peak_bytes() <= bytes_max {
            return Ok((self, Vec::new()));
        }
        let mut wanted = bytes_max;
        let (chosen, places, executable) = loop {
            let Recomputed {
                regions,
                chosen,
                places,
                bytes,
                ..
            } = recompute(self.regions(), wanted, target);
            let executable = Executable::new(regions, self.counts())?;
            // What lies between buffers counts too: less must be alive to make up for it.
            let above = executable.plan().peak_bytes().saturating_sub(bytes_max);
            if above == 0 || bytes > wanted || wanted < bytes_max / 2 {
                break (chosen, places, executable);
            }
            wanted = wanted.saturating_sub(above.max(bytes_max / 100));
        };
        let mut program = Program { executable, ..self };
        for refusal in &mut program.refusals {
            refusal.region = places[refusal.region.0 as usize];
        }
        Ok((program, chosen))
    }

    /// The program of a text form, as an artifact stores it.
    ///
    /// # Errors
    /// When the text does not parse or holds anything but one bound function.
    pub fn parse(text: &str) -> Result<Program, CompileError> {
        Program::new(one(text)?)
    }

    /// The program of a stored graph, as text, and of the regions that were formed of it. It forms
    /// nothing, so that it tells nothing of fusions.
    ///
    /// # Errors
    /// When the text does not parse or holds anything but one bound function with the parameters
    /// and results of the regions.
    pub fn stored(text: &str, executable: Executable) -> Result<Program, CompileError> {
        let func = one(text)?;
        check_func(&func)?;
        let roles = [Role::Input, Role::Weight, Role::State];
        let same = roles.into_iter().all(|role| {
            let params = func.params(role).map(|(_, name, ty)| (name, ty.clone()));
            params.eq(executable.params(role))
        });
        let results = func.results().iter();
        let results = results.map(|(name, value)| (name.as_str(), func.ty(*value).clone()));
        match same && results.eq(executable.results()) {
            true => Ok(Program {
                func,
                executable,
                fusions: BTreeMap::new(),
                refusals: Vec::new(),
            }),
            false => Err(CompileError::Foreign {
                func: func.name().to_owned(),
            }),
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

    /// What devices are given of it.
    pub fn executable(&self) -> &Executable {
        &self.executable
    }

    /// The same without the graph.
    pub fn into_executable(self) -> Executable {
        self.executable
    }

    /// How often each rule of fusion was applied.
    pub fn fusions(&self) -> &BTreeMap<&'static str, usize> {
        &self.fusions
    }

    /// Why rules of fusion were not applied, by region.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

/// The only function of a text form.
fn one(text: &str) -> Result<Func, CompileError> {
    let mut module = text::parse(text)?;
    match module.funcs.len() {
        1 => Ok(module.funcs.remove(0)),
        found => Err(CompileError::Functions { found }),
    }
}

/// Counts operators and operations.
fn counts(func: &Func) -> Counts {
    let mut counts = Counts::default();
    for (_, data) in func.values() {
        let Definition::Node(node) = &data.definition else {
            continue;
        };
        let operands = node.operands.iter();
        let types: Vec<TensorType> = operands.map(|&operand| func.ty(operand).clone()).collect();
        let flops = node.op.flops(&types, &data.ty).counted();
        counts.flops = counts.flops.saturating_add(flops);
        counts.nodes += u64::from(!types.is_empty());
    }
    counts
}
