//! The CPU: executes programs by tile programs, one routine per tile operation.
//!
//! Takes a program and its weights, gives an [`Executor`] that maps inputs to results. Tile
//! programs are chosen for this machine when it loads, weights are packed for its vector
//! instructions, and buffers lie where the plan says. It fuses nothing and plans nothing.

mod arena;
mod block;
mod ceilings;
mod copy;
mod epilogue;
mod error;
mod fold;
mod functions;
mod gemm;
mod kernel;
mod launch;
mod math;
mod memory;
#[cfg(target_os = "linux")]
mod pages;
mod parameters;
mod plain;
mod row_operators;
mod states;
#[cfg(test)]
pub(crate) mod tests;
mod threads;
mod tiles;
mod tune;
mod walk;
mod weights;
mod winograd;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use compiler::graph::eval::EvalError;
use compiler::graph::{Role, TensorType};
use compiler::program::Executable;
use compiler::region::{Buffer, Content, RegionId, Regions};
use compiler::tile::{LowerOptions, Tiled, Tuning, lower};
use compiler::value::extents::Extents;
use compiler::value::tensor::Tensor;

use crate::clock::{Clock, RegionTime};
use crate::found::{Fact, Found, TYPES};

pub use ceilings::{Ceilings, measure};
pub use error::ExecuteError;
use kernel::machine::Machine;
use launch::{launch, target};
use memory::{Computation, Memory};
use parameters::check;
use states::States;
use threads::{Threads, current};
pub use tune::{TuneOptions, tune};

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

/// What tables show of this machine's processor.
pub(crate) fn found() -> Found {
    let Description {
        architecture,
        instruction_sets,
        threads,
    } = describe();
    let (sets, types) = (instruction_sets.join(" "), TYPES.join(" "));
    Found {
        lines: vec![format!(
            "{architecture} with {sets}, {threads} threads, {types}"
        )],
        facts: vec![
            ("usable", Fact::Flag(true)),
            ("architecture", Fact::Text(architecture.to_owned())),
            ("instruction_sets", Fact::Texts(instruction_sets)),
            ("threads", Fact::Number(threads as u64)),
            ("dtypes", Fact::Texts(TYPES.to_vec())),
        ],
    }
}

/// How a program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads; one per core if `None`.
    pub threads: Option<usize>,
    /// Whether sums stay sums: no program that rounds more than a direct one.
    pub exact: bool,
}

/// A program ready to run: tile programs chosen, weights packed, memory laid out.
pub struct Executor {
    regions: Regions,
    tiled: Tiled,
    memory: Mutex<Memory>,
    threads: Threads,
    packed_bytes: usize,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.regions.name;
        let regions = self.regions.regions.len();
        write!(f, "Executor {{ {name}, {regions} regions }}")
    }
}

impl Executor {
    /// Prepares `program` with its `weights` and first states, by name; they may be stored in
    /// another float type than the program declares. Each is dropped as soon as its last reader has
    /// packed it. What `tuning` holds of this machine decides between tile programs.
    ///
    /// # Errors
    /// When a weight is missing, of another shape or cannot be read, or threads or memory cannot be
    /// had.
    pub fn new(
        program: &Executable,
        weights: BTreeMap<String, Tensor>,
        options: Options,
        tuning: &Tuning,
    ) -> Result<Executor, ExecuteError> {
        let threads = Threads::new(options.threads)?;
        let machine = Machine::detect();
        let target = target(machine, threads.install(current));
        let exact = LowerOptions {
            exact: options.exact,
        };
        let tiled = lower(program.regions(), &target, exact, tuning);
        Executor::of(program, weights, threads, machine, tiled)
    }

    /// Prepares a program whose tile programs are chosen for `machine`.
    fn of(
        program: &Executable,
        weights: BTreeMap<String, Tensor>,
        threads: Threads,
        machine: Machine,
        tiled: Tiled,
    ) -> Result<Executor, ExecuteError> {
        let memory = Memory::new(program, &tiled, weights, &threads, machine)?;
        Ok(Executor {
            regions: program.regions().clone(),
            tiled,
            packed_bytes: memory.packed_bytes(),
            memory: Mutex::new(memory),
            threads,
        })
    }

    /// The regions, and what computes each.
    pub fn tiled(&self) -> &Tiled {
        &self.tiled
    }

    /// Bytes of packed weights, transformed ones included, and of the largest factor that is packed
    /// anew for each launch.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Executes the program on `inputs`, by name; gives its results in order, but for new states,
    /// which take the places of the old ones.
    ///
    /// # Errors
    /// When an input is missing or of another type, or an operator meets data outside of its
    /// domain: then states that were stored in place by earlier regions have changed.
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, ExecuteError> {
        self.threads.install(|| self.execute(inputs, &mut |_| {}))
    }

    /// As [`Executor::run`]; gives the time that each region took, in order, and no results.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        clock: Clock<'_>,
    ) -> Result<Vec<RegionTime>, ExecuteError> {
        let mut times = Vec::with_capacity(self.regions.regions.len());
        self.threads.install(|| {
            let mut before = clock();
            self.execute(inputs, &mut |region| {
                let now = clock();
                let seconds = now - before;
                times.push(RegionTime { region, seconds });
                before = now;
            })
        })?;
        Ok(times)
    }

    /// Executes the program; tells `observe` of each region when it is done.
    fn execute(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        observe: &mut (dyn FnMut(RegionId) + Send),
    ) -> Result<Vec<(String, Tensor)>, ExecuteError> {
        let mut memory = self.lock();
        let memory = &mut *memory;
        let cells = memory.cells(&self.regions);
        for (data, cells) in self.regions.buffers.iter().zip(&cells) {
            if let Content::Param(param) = &data.content
                && param.role == Role::Input
            {
                let ty = TensorType::from(&data.extents);
                let given = inputs.get(&param.name);
                let tensor = check(param.role, &param.name, &ty, given, false)?;
                cells.fill(tensor.bytes());
            }
        }
        let Memory {
            steps,
            scratch,
            fresh,
            states,
            ..
        } = memory;
        for ((id, region), step) in self.regions.iter().zip(&*steps) {
            let fault = |fault| EvalError::Fault {
                op: region.anchor.class().name(),
                origin: region.origin.clone(),
                fault,
            };
            match step {
                Computation::Blocks(kernel) => {
                    launch(kernel, &cells, scratch, fresh).map_err(fault)?;
                }
                Computation::Plain => plain::run(&self.regions, region, &cells)?,
            }
            observe(id);
        }
        let is_state = |name: &str| states.named(&self.regions).any(|(own, _)| own == name);
        let results = self.regions.results.iter();
        let results = results.filter(|(name, _)| !is_state(name));
        let result = |(name, buffer): &(String, Buffer)| {
            let Extents { dtype, shape } = &self.regions.buffer(*buffer).extents;
            let bytes = cells[buffer.0 as usize].to_bytes();
            let tensor = Tensor::new(*dtype, shape.clone(), bytes.into());
            (
                name.clone(),
                tensor.expect("a buffer has the bytes of its extents"),
            )
        };
        let results = results.map(result).collect();
        states.update(&cells);
        Ok(results)
    }

    /// Replaces the weights that `changed` names by those of `weights`, which holds all weights of the
    /// program: what is packed together is packed anew. Names that the program does not read are
    /// ignored. Nothing is compiled, and no tile program is chosen anew.
    ///
    /// # Errors
    /// When a weight is missing, of another shape or cannot be read, or memory cannot be had: then
    /// some weights have been replaced and others not.
    pub fn set_weights(
        &self,
        changed: &[&str],
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), ExecuteError> {
        let mut memory = self.lock();
        memory.replace(&self.regions, &self.threads, changed, weights)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a state holds now; `None` if the program has none of that name.
    pub fn state(&self, name: &str) -> Option<Tensor> {
        let mut memory = self.lock();
        let state = self.named_state(&memory.states, name)?;
        let cells = memory.states.cells(&self.regions, state)?;
        let Extents { dtype, shape } = &self.regions.buffer(state).extents;
        Tensor::new(*dtype, shape.clone(), cells.to_bytes().into()).ok()
    }

    /// Replaces what a state holds; the tensor may be of another float type. Gives whether the
    /// program has a state of that name.
    ///
    /// # Errors
    /// When the tensor is of another type.
    pub fn set_state(&self, name: &str, tensor: &Tensor) -> Result<bool, ExecuteError> {
        let mut memory = self.lock();
        let Some(state) = self.named_state(&memory.states, name) else {
            return Ok(false);
        };
        memory.states.set(&self.regions, state, Some(tensor))?;
        Ok(true)
    }

    fn named_state(&self, states: &States, name: &str) -> Option<Buffer> {
        let mut named = states.named(&self.regions);
        named.find_map(|(own, state)| (own == name).then_some(state))
    }
}
