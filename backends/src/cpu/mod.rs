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
mod functions;
mod gemm;
mod kernel;
mod math;
mod plain;
mod row_operators;
#[cfg(test)]
mod tests;
mod threads;
mod tiles;
mod walk;
mod weights;
mod winograd;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use compiler::DType;
use compiler::eval::{EvalError, Fault};
use compiler::graph::{Role, TensorType};
use compiler::ops::Extents;
use compiler::plan::Plan;
use compiler::program::Program;
use compiler::region::{Buffer, BufferData, Content, RegionId, Regions};
use compiler::target::Target;
use compiler::tensor::Tensor;
use compiler::tile::{Choice, LowerOptions, Tiled, lower};

use arena::{Arena, Cells};
use block::Kernel;
pub use ceilings::{Ceilings, measure};
use epilogue::Partial;
use kernel::machine::Machine;
use threads::{Threads, current, on_each};

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

/// The time that one region took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionTime {
    /// The region.
    pub region: RegionId,
    /// From the region before to this one; the first takes what fetching inputs took, so that all
    /// of them add up to the run.
    pub seconds: f64,
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
    steps: Vec<Computation>,
    tiled: Tiled,
    /// Where each buffer lies.
    places: Vec<Lies>,
    memory: Mutex<Memory>,
    threads: Threads,
    packed_bytes: usize,
}

/// What computes a region.
enum Computation {
    Blocks(Box<Kernel>),
    Plain,
}

/// Where a buffer lies.
enum Lies {
    /// At this byte of the arena.
    Arena(usize),
    /// In a tensor that is always the same.
    Fixed(Tensor),
    /// Nowhere any more: it was packed.
    Packed,
}

/// What runs work in, one run at a time.
struct Memory {
    arena: Arena,
    /// One for each thread.
    scratch: Vec<Mutex<Arena>>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.regions.name;
        write!(f, "Executor {{ {name}, {} regions }}", self.steps.len())
    }
}

impl Executor {
    /// Prepares `program` with its `weights`, by name; they may be stored in another float type
    /// than the program declares. What is packed is not held on to.
    ///
    /// # Errors
    /// When a weight is missing or of another shape, or threads cannot start.
    pub fn new(
        program: &Program,
        weights: &BTreeMap<String, Tensor>,
        options: Options,
    ) -> Result<Executor, ExecuteError> {
        let threads = Threads::new(options.threads)?;
        let target = target(Machine::detect(), threads.install(current));
        let exact = LowerOptions {
            exact: options.exact,
        };
        let tiled = lower(program.regions(), &target, exact);
        Executor::of(program, weights, threads, tiled)
    }

    /// Prepares a program whose tile programs are chosen.
    fn of(
        program: &Program,
        weights: &BTreeMap<String, Tensor>,
        threads: Threads,
        tiled: Tiled,
    ) -> Result<Executor, ExecuteError> {
        let regions = program.regions().clone();
        let plan = program.plan();
        let places = places(&regions, plan, weights)?;
        let count = threads.install(current);
        let mut executor = Executor {
            steps: Vec::with_capacity(regions.regions.len()),
            memory: Mutex::new(Memory {
                arena: Arena::new(plan.peak_bytes() as usize),
                scratch: Vec::new(),
            }),
            places,
            tiled,
            regions,
            threads,
            packed_bytes: 0,
        };
        executor.prepare(Machine::detect(), count);
        Ok(executor)
    }

    /// Compiles every choice, packs weights, and forgets the tensors that nothing reads any more.
    fn prepare(&mut self, machine: Machine, threads: usize) {
        let arena = &mut self
            .memory
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .arena;
        let cells = cells(&self.regions, &self.places, arena);
        let fixed = |buffer: usize| match &self.places[buffer] {
            Lies::Fixed(_) => true,
            Lies::Arena(_) | Lies::Packed => false,
        };
        let mut packed = vec![false; self.places.len()];
        for ((_, region), choice) in self.regions.iter().zip(&self.tiled.choices) {
            let kernel = match choice {
                Choice::Blocks(program) => Kernel::new(program, region, &self.regions, machine),
                Choice::Plain(_) => None,
            };
            self.steps.push(match kernel {
                Some(mut kernel) => {
                    let buffers = self.threads.install(|| kernel.pack(&cells, &fixed));
                    buffers.into_iter().for_each(|buffer| packed[buffer] = true);
                    Computation::Blocks(Box::new(kernel))
                }
                None => Computation::Plain,
            });
        }
        for (step, region) in self.steps.iter().zip(&self.regions.regions) {
            match step {
                Computation::Blocks(kernel) => {
                    kernel.reads().into_iter().for_each(|b| packed[b] = false);
                }
                Computation::Plain => {
                    let reads = region.reads().into_iter();
                    reads.for_each(|buffer| packed[buffer.0 as usize] = false);
                }
            }
        }
        for (_, buffer) in &self.regions.results {
            packed[buffer.0 as usize] = false;
        }
        for (place, packed) in self.places.iter_mut().zip(packed) {
            if packed {
                *place = Lies::Packed;
            }
        }
        let kernels = || self.steps.iter().filter_map(Computation::kernel);
        self.packed_bytes = kernels().map(Kernel::packed_bytes).sum();
        let scratch = kernels().map(|kernel| kernel.scratch).max().unwrap_or(0);
        let memory = self
            .memory
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        memory.scratch = (0..threads)
            .map(|_| Mutex::new(Arena::floats(scratch)))
            .collect();
    }

    /// The regions, and what computes each.
    pub fn tiled(&self) -> &Tiled {
        &self.tiled
    }

    /// Bytes of packed weights, transformed ones included.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Executes the program on `inputs`, by name; gives its results in order.
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

    /// As [`Executor::run`]; gives the time that each region took, in order, and no results.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn profile(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        clock: Clock<'_>,
    ) -> Result<Vec<RegionTime>, ExecuteError> {
        let mut times = Vec::with_capacity(self.steps.len());
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
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = &mut *memory;
        let cells = cells(&self.regions, &self.places, &mut memory.arena);
        for (data, cells) in self.regions.buffers.iter().zip(&cells) {
            if let Content::Param(param) = &data.content
                && param.role == Role::Input
            {
                let ty = ty(&data.extents);
                let given = inputs.get(&param.name);
                let tensor = check(param.role, &param.name, &ty, given, false)?;
                cells.fill(tensor.bytes());
            }
        }
        for ((id, region), step) in self.regions.iter().zip(&self.steps) {
            let fault = |fault| EvalError::Fault {
                op: region.anchor.class().name(),
                origin: region.origin.clone(),
                fault,
            };
            match step {
                Computation::Blocks(kernel) => {
                    launch(kernel, &cells, &memory.scratch).map_err(fault)?;
                }
                Computation::Plain => plain::run(&self.regions, region, &cells)?,
            }
            observe(id);
        }
        let results = self.regions.results.iter();
        let result = |(name, buffer): &(String, Buffer)| {
            let Extents { dtype, shape } = &self.regions.buffer(*buffer).extents;
            let bytes = cells[buffer.0 as usize].to_bytes();
            let tensor = Tensor::new(*dtype, shape.clone(), bytes.into());
            (
                name.clone(),
                tensor.expect("a buffer has the bytes of its extents"),
            )
        };
        Ok(results.map(result).collect())
    }
}

impl Computation {
    fn kernel(&self) -> Option<&Kernel> {
        match self {
            Computation::Blocks(kernel) => Some(kernel),
            Computation::Plain => None,
        }
    }
}

/// Runs a kernel on all threads, each on its share of the blocks.
fn launch(kernel: &Kernel, cells: &[Cells], scratch: &[Mutex<Arena>]) -> Result<(), Fault> {
    let blocks = kernel.blocks();
    let threads = scratch.len().min(blocks).max(1);
    let share = |thread: usize| thread * blocks / threads;
    let partials = on_each(threads, |thread| {
        let mut scratch = scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kernel.run(share(thread)..share(thread + 1), cells, &mut scratch)
    });
    let partials: Result<Vec<Vec<Partial>>, Fault> = partials.into_iter().collect();
    kernel.merge(partials?.concat(), cells);
    Ok(())
}

/// What the compiler may know of this machine.
fn target(machine: Machine, threads: usize) -> Target {
    Target {
        name: machine.name(),
        threads,
        fragment: [machine.rows(), machine.columns()],
        ..Target::CPU
    }
}

fn ty(extents: &Extents) -> TensorType {
    TensorType::new(extents.dtype, extents.shape.iter().copied())
}

/// Where all buffers lie.
fn places(
    regions: &Regions,
    plan: &Plan,
    weights: &BTreeMap<String, Tensor>,
) -> Result<Vec<Lies>, ExecuteError> {
    let place = |(number, data): (usize, &BufferData)| {
        Ok(match &data.content {
            Content::Constant(tensor) => Lies::Fixed(tensor.clone()),
            Content::Param(param) if param.role == Role::Weight => {
                let given = weights.get(&param.name);
                let tensor = check(Role::Weight, &param.name, &ty(&data.extents), given, true)?;
                Lies::Fixed(tensor.cast(data.extents.dtype))
            }
            Content::Param(_) | Content::Computed => match plan.place(Buffer(number as u32)) {
                Some(place) => Lies::Arena(plan.address(place).1 as usize),
                None => Lies::Packed,
            },
        })
    };
    regions.buffers.iter().enumerate().map(place).collect()
}

/// The memory of every buffer.
fn cells(regions: &Regions, places: &[Lies], arena: &mut Arena) -> Vec<Cells> {
    let cells = places.iter().zip(&regions.buffers).map(|(place, data)| {
        let Extents { dtype, .. } = data.extents;
        match place {
            Lies::Arena(offset) => arena.cells(*offset, dtype, data.extents.elements()),
            Lies::Fixed(tensor) => Cells::of(tensor),
            Lies::Packed => arena.cells(0, dtype, 0),
        }
    });
    cells.collect()
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
