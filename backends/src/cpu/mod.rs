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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use compiler::graph::eval::EvalError;
use compiler::graph::{Role, TensorType};
use compiler::plan::{Plan, updates};
use compiler::program::Executable;
use compiler::region::{Buffer, BufferData, Content, RegionId, Regions};
use compiler::tile::{Choice, LowerOptions, Tiled, Tuning, lower};
use compiler::value::extents::Extents;
use compiler::value::tensor::Tensor;

use crate::clock::{Clock, RegionTime};
use crate::found::{Fact, Found, TYPES};

use arena::{Arena, Cells};
use block::Kernel;
pub use ceilings::{Ceilings, measure};
pub use error::ExecuteError;
use kernel::machine::Machine;
use launch::{launch, memory, target};
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
    /// Among the states.
    State,
    /// In a tensor that is always the same; until somebody reads it, it may lie in a file, and in
    /// another float type than the buffer has.
    Fixed(Tensor),
    /// Nowhere any more: it was packed, or nothing reads it.
    Packed,
}

/// What runs work in, one run at a time.
struct Memory {
    arena: Arena,
    states: States,
    /// One for each thread.
    scratch: Vec<Mutex<Arena>>,
    /// The right factor of the kernel that runs, if it is packed anew for each launch.
    fresh: Arena,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.regions.name;
        write!(f, "Executor {{ {name}, {} regions }}", self.steps.len())
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
        mut weights: BTreeMap<String, Tensor>,
        threads: Threads,
        machine: Machine,
        tiled: Tiled,
    ) -> Result<Executor, ExecuteError> {
        let regions = program.regions().clone();
        let plan = program.plan();
        let states = States::new(&regions, &mut weights)?;
        let places = places(&regions, plan, weights)?;
        let count = threads.install(current);
        let mut executor = Executor {
            steps: Vec::with_capacity(regions.regions.len()),
            memory: Mutex::new(Memory {
                arena: memory("values", plan.peak_bytes())?,
                states,
                scratch: Vec::new(),
                fresh: memory("packed factors", 0)?,
            }),
            places,
            tiled,
            regions,
            threads,
            packed_bytes: 0,
        };
        executor.prepare(machine)?;
        let kernels = || executor.steps.iter().filter_map(Computation::kernel);
        executor.packed_bytes = kernels().map(Kernel::packed_bytes).sum();
        let scratch = kernels().map(|kernel| kernel.scratch).max().unwrap_or(0);
        let bytes = scratch as u64 * size_of::<f32>() as u64;
        let scratch = (0..count).map(|_| Ok(Mutex::new(memory("tiles", bytes)?)));
        let scratch = scratch.collect::<Result<_, ExecuteError>>()?;
        let fresh = kernels().map(Kernel::fresh_floats).max().unwrap_or(0);
        let fresh = memory("packed factors", fresh as u64 * size_of::<f32>() as u64)?;
        executor.packed_bytes += fresh.bytes();
        let memory = executor.memory_mut();
        memory.scratch = scratch;
        memory.fresh = fresh;
        Ok(executor)
    }

    fn memory_mut(&mut self) -> &mut Memory {
        let memory = self.memory.get_mut();
        memory.unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles every choice and packs weights, region by region; a tensor goes when its last
    /// reader has packed it.
    fn prepare(&mut self, machine: Machine) -> Result<(), ExecuteError> {
        let mut readers = readers(&self.regions);
        for number in 0..self.regions.regions.len() {
            let region = &self.regions.regions[number];
            let kernel = match &self.tiled.choices[number] {
                Choice::Blocks(program) => Kernel::new(program, region, &self.regions, machine),
                Choice::Plain(_) => None,
            };
            let Some(mut kernel) = kernel else {
                self.steps.push(Computation::Plain);
                continue;
            };
            let packable = kernel.packable();
            let fixed = |buffer: &usize| match &self.places[*buffer] {
                Lies::Fixed(_) => true,
                Lies::Arena(_) | Lies::State | Lies::Packed => false,
            };
            if packable.is_empty() || !packable.iter().all(fixed) {
                if !kernel.renew(&self.regions) {
                    self.steps.push(Computation::Plain);
                    continue;
                }
            } else {
                self.pack(&mut kernel, &packable)?;
                let reads = kernel.reads();
                for buffer in packable
                    .into_iter()
                    .filter(|buffer| !reads.contains(buffer))
                {
                    readers[buffer].remove(&number);
                    if readers[buffer].is_empty() {
                        self.places[buffer] = Lies::Packed;
                    }
                }
            }
            self.steps.push(Computation::Blocks(Box::new(kernel)));
        }
        for (buffer, readers) in readers.iter().enumerate() {
            match &self.places[buffer] {
                Lies::Fixed(_) if readers.is_empty() => self.places[buffer] = Lies::Packed,
                Lies::Fixed(_) => self.fetch(buffer)?,
                Lies::Arena(_) | Lies::State | Lies::Packed => {}
            }
        }
        Ok(())
    }

    /// Packs the right factor of a kernel, which is in `buffers`.
    fn pack(&mut self, kernel: &mut Kernel, buffers: &[usize]) -> Result<(), ExecuteError> {
        for &buffer in buffers {
            self.fetch(buffer)?;
        }
        let memory = self.memory.get_mut();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        let cells = cells(&self.regions, &self.places, memory);
        match self.threads.install(|| kernel.pack(&cells)) {
            true => Ok(()),
            false => {
                let what = "packed weights";
                let elements = buffers
                    .iter()
                    .map(|&b| self.regions.buffers[b].extents.elements());
                let bytes = elements.sum::<usize>() as u64 * size_of::<f32>() as u64;
                Err(ExecuteError::Memory { bytes, what })
            }
        }
    }

    /// Brings a fixed tensor into memory, in the type that its readers expect.
    fn fetch(&mut self, buffer: usize) -> Result<(), ExecuteError> {
        if let Lies::Fixed(tensor) = &mut self.places[buffer] {
            let fetched = tensor.fetched()?;
            *tensor = fetched.cast(self.regions.buffers[buffer].extents.dtype);
        }
        Ok(())
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
        let cells = cells(&self.regions, &self.places, memory);
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
        for ((id, region), step) in self.regions.iter().zip(&self.steps) {
            let fault = |fault| EvalError::Fault {
                op: region.anchor.class().name(),
                origin: region.origin.clone(),
                fault,
            };
            match step {
                Computation::Blocks(kernel) => {
                    let Memory { scratch, fresh, .. } = memory;
                    launch(kernel, &cells, scratch, fresh).map_err(fault)?;
                }
                Computation::Plain => plain::run(&self.regions, region, &cells)?,
            }
            observe(id);
        }
        let is_state = |name: &str| {
            memory
                .states
                .named(&self.regions)
                .any(|(own, _)| own == name)
        };
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
        memory.states.update(&cells);
        Ok(results)
    }

    /// What a state holds now; `None` if the program has none of that name.
    pub fn state(&self, name: &str) -> Option<Tensor> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
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

impl Computation {
    fn kernel(&self) -> Option<&Kernel> {
        match self {
            Computation::Blocks(kernel) => Some(kernel),
            Computation::Plain => None,
        }
    }
}

/// The regions that read each buffer, by number; the number after the last stands for the caller.
fn readers(regions: &Regions) -> Vec<BTreeSet<usize>> {
    let mut readers = vec![BTreeSet::new(); regions.buffers.len()];
    for (number, region) in regions.regions.iter().enumerate() {
        for buffer in region.reads() {
            readers[buffer.0 as usize].insert(number);
        }
    }
    for (_, buffer) in &regions.results {
        readers[buffer.0 as usize].insert(regions.regions.len());
    }
    readers
}

/// Where all buffers lie.
fn places(
    regions: &Regions,
    plan: &Plan,
    mut weights: BTreeMap<String, Tensor>,
) -> Result<Vec<Lies>, ExecuteError> {
    let updates = updates(regions);
    let in_place = |buffer: Buffer| {
        let mut updates = updates.iter();
        updates.any(|update| update.in_place && update.result == buffer)
    };
    let place = |(number, data): (usize, &BufferData)| {
        Ok(match &data.content {
            Content::Constant(tensor) => Lies::Fixed(tensor.clone()),
            Content::Param(param) if param.role == Role::Weight => {
                let given = weights.remove(&param.name);
                let ty = TensorType::from(&data.extents);
                check(Role::Weight, &param.name, &ty, given.as_ref(), true)?;
                given.map_or(Lies::Packed, Lies::Fixed)
            }
            Content::Param(param) if param.role == Role::State => Lies::State,
            Content::Computed if in_place(Buffer(number as u32)) => Lies::State,
            Content::Param(_) | Content::Computed => {
                let buffer = Buffer(number as u32);
                let (home, start) = regions.part_of(buffer).unwrap_or((buffer, 0));
                match plan.place(home) {
                    Some(place) => {
                        let start = start * data.extents.dtype.bytes();
                        Lies::Arena(plan.address(place).1 as usize + start)
                    }
                    None => Lies::Packed,
                }
            }
        })
    };
    regions.buffers.iter().enumerate().map(place).collect()
}

/// The memory of every buffer.
fn cells(regions: &Regions, places: &[Lies], memory: &mut Memory) -> Vec<Cells> {
    let Memory { arena, states, .. } = memory;
    let cell = |(number, place): (usize, &Lies)| {
        let extents = &regions.buffers[number].extents;
        let dtype = extents.dtype;
        let none = |arena: &mut Arena| arena.cells(0, dtype, 0);
        match place {
            Lies::Arena(offset) => arena.cells(*offset, dtype, extents.elements()),
            Lies::Fixed(tensor) => Cells::of(tensor),
            Lies::State => {
                let found = states.cells(regions, Buffer(number as u32));
                found.unwrap_or_else(|| none(arena))
            }
            Lies::Packed => none(arena),
        }
    };
    places.iter().enumerate().map(cell).collect()
}
