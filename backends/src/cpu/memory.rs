//! What an executor holds: kernels with their packed weights, and the memory of every buffer.
//!
//! Takes a program, what computes its regions, and its weights; packs each weight once, and again
//! when it is replaced. It runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use compiler::graph::{Role, TensorType};
use compiler::plan::{Plan, updates};
use compiler::program::Executable;
use compiler::region::{Buffer, BufferData, Content, Regions};
use compiler::tile::{Choice, Tiled};
use compiler::value::tensor::Tensor;

use super::arena::{Arena, Cells};
use super::block::Kernel;
use super::error::ExecuteError;
use super::kernel::machine::Machine;
use super::launch::reserve;
use super::parameters::check;
use super::states::States;
use super::threads::{Threads, current};

/// What computes a region.
pub(super) enum Computation {
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
pub(super) struct Memory {
    /// What computes each region.
    pub(super) steps: Vec<Computation>,
    /// Where each buffer lies.
    places: Vec<Lies>,
    arena: Arena,
    pub(super) states: States,
    /// One for each thread.
    pub(super) scratch: Vec<Mutex<Arena>>,
    /// The right factor of the kernel that runs, if it is packed anew for each launch.
    pub(super) fresh: Arena,
}

impl Memory {
    /// What a program needs, with its weights packed; each is dropped as soon as its last reader
    /// has packed it.
    ///
    /// # Errors
    /// When a weight or a state is missing, of another shape or cannot be read, or memory cannot be
    /// had.
    pub(super) fn new(
        program: &Executable,
        tiled: &Tiled,
        mut weights: BTreeMap<String, Tensor>,
        threads: &Threads,
        machine: Machine,
    ) -> Result<Memory, ExecuteError> {
        let (regions, plan) = (program.regions(), program.plan());
        let states = States::new(regions, &mut weights)?;
        let mut memory = Memory {
            steps: Vec::with_capacity(regions.regions.len()),
            places: places(regions, plan, weights)?,
            arena: reserve("values", plan.peak_bytes())?,
            states,
            scratch: Vec::new(),
            fresh: reserve("packed factors", 0)?,
        };
        memory.prepare(regions, tiled, threads, machine)?;
        let kernels = || memory.steps.iter().filter_map(Computation::kernel);
        let scratch = kernels().map(|kernel| kernel.scratch).max().unwrap_or(0);
        let bytes = scratch as u64 * size_of::<f32>() as u64;
        let scratch =
            (0..threads.install(current)).map(|_| Ok(Mutex::new(reserve("tiles", bytes)?)));
        let scratch = scratch.collect::<Result<_, ExecuteError>>()?;
        let fresh = kernels().map(Kernel::fresh_floats).max().unwrap_or(0);
        let fresh = reserve("packed factors", fresh as u64 * size_of::<f32>() as u64)?;
        memory.scratch = scratch;
        memory.fresh = fresh;
        Ok(memory)
    }

    /// Bytes of packed weights, and of the largest factor that is packed anew for each launch.
    pub(super) fn packed_bytes(&self) -> usize {
        let kernels = self.steps.iter().filter_map(Computation::kernel);
        kernels.map(Kernel::packed_bytes).sum::<usize>() + self.fresh.bytes()
    }

    /// Compiles every choice and packs weights, region by region; a tensor goes when its last
    /// reader has packed it.
    fn prepare(
        &mut self,
        regions: &Regions,
        tiled: &Tiled,
        threads: &Threads,
        machine: Machine,
    ) -> Result<(), ExecuteError> {
        let mut readers = readers(regions);
        for number in 0..regions.regions.len() {
            let region = &regions.regions[number];
            let kernel = match &tiled.choices[number] {
                Choice::Blocks(program) => Kernel::new(program, region, regions, machine),
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
                if !kernel.renew(regions) {
                    self.steps.push(Computation::Plain);
                    continue;
                }
            } else {
                self.pack(&mut kernel, &packable, regions, threads)?;
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
                Lies::Fixed(_) => self.fetch(buffer, regions)?,
                Lies::Arena(_) | Lies::State | Lies::Packed => {}
            }
        }
        Ok(())
    }

    /// The memory of every buffer.
    pub(super) fn cells(&mut self, regions: &Regions) -> Vec<Cells> {
        let Memory {
            arena,
            states,
            places,
            ..
        } = self;
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

    /// Brings a fixed tensor into memory, in the type that its readers expect.
    fn fetch(&mut self, buffer: usize, regions: &Regions) -> Result<(), ExecuteError> {
        if let Lies::Fixed(tensor) = &mut self.places[buffer] {
            let fetched = tensor.fetched()?;
            *tensor = fetched.cast(regions.buffers[buffer].extents.dtype);
        }
        Ok(())
    }

    /// Packs the right factor of a kernel, which is in `buffers`.
    fn pack(
        &mut self,
        kernel: &mut Kernel,
        buffers: &[usize],
        regions: &Regions,
        threads: &Threads,
    ) -> Result<(), ExecuteError> {
        for &buffer in buffers {
            self.fetch(buffer, regions)?;
        }
        let cells = self.cells(regions);
        match threads.install(|| kernel.pack(&cells)) {
            true => Ok(()),
            false => {
                let what = "packed weights";
                let elements = buffers
                    .iter()
                    .map(|&b| regions.buffers[b].extents.elements());
                let bytes = elements.sum::<usize>() as u64 * size_of::<f32>() as u64;
                Err(ExecuteError::Memory { bytes, what })
            }
        }
    }

    /// Replaces the weights that `changed` names by those of `weights`, which holds all weights.
    ///
    /// # Errors
    /// When a weight is missing, of another shape or cannot be read, or memory cannot be had.
    pub(super) fn replace(
        &mut self,
        regions: &Regions,
        threads: &Threads,
        changed: &[&str],
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), ExecuteError> {
        let is_changed = |buffer: usize| match &regions.buffers[buffer].content {
            Content::Param(param) => {
                param.role == Role::Weight && changed.contains(&param.name.as_str())
            }
            Content::Constant(_) | Content::Computed => false,
        };
        for buffer in (0..self.places.len()).filter(|buffer| is_changed(*buffer)) {
            if let Lies::Fixed(_) = self.places[buffer] {
                self.places[buffer] = fixed(&regions.buffers[buffer], weights)?;
                self.fetch(buffer, regions)?;
            }
        }
        let mut steps = std::mem::take(&mut self.steps);
        let kernels = steps.iter_mut().filter_map(|step| match step {
            Computation::Blocks(kernel) => Some(kernel),
            Computation::Plain => None,
        });
        let result = kernels
            .filter(|kernel| kernel.packed_bytes() > 0)
            .map(|kernel| (kernel.packable(), kernel))
            .filter(|(factor, _)| factor.iter().any(|buffer| is_changed(*buffer)))
            .try_for_each(|(factor, kernel)| {
                self.pack_again(kernel, &factor, regions, threads, weights)
            });
        self.steps = steps;
        result
    }

    /// Packs the right factor of a kernel, which is in `buffers`, from other weights.
    fn pack_again(
        &mut self,
        kernel: &mut Kernel,
        buffers: &[usize],
        regions: &Regions,
        threads: &Threads,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), ExecuteError> {
        let packed = buffers.iter().copied();
        let packed: Vec<usize> = packed
            .filter(|buffer| matches!(self.places[*buffer], Lies::Packed))
            .collect();
        for &buffer in &packed {
            self.places[buffer] = fixed(&regions.buffers[buffer], weights)?;
        }
        let result = self.pack(kernel, buffers, regions, threads);
        for buffer in packed {
            self.places[buffer] = Lies::Packed;
        }
        result
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
            Content::Constant(_) => fixed(data, &weights)?,
            Content::Param(param) if param.role == Role::Weight => {
                let place = fixed(data, &weights)?;
                weights.remove(&param.name);
                place
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

/// A constant, or a weight of those given, in its own type.
fn fixed(data: &BufferData, weights: &BTreeMap<String, Tensor>) -> Result<Lies, ExecuteError> {
    Ok(match &data.content {
        Content::Constant(tensor) => Lies::Fixed(tensor.clone()),
        Content::Param(param) => {
            let (name, ty) = (&param.name, TensorType::from(&data.extents));
            let tensor = check(Role::Weight, name, &ty, weights.get(name), true)?;
            Lies::Fixed(tensor.clone())
        }
        Content::Computed => Lies::Packed,
    })
}
