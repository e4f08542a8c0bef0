//! Tuning: the contenders of each region, measured on this machine.
//!
//! Takes a program and a clock, gives times of tile programs; the tensors that they run on are made
//! up. Contenders run one after the other in several rounds, so that what disturbs the machine for
//! a while disturbs them all, and one at a time has its weights packed. It changes no program.

use std::sync::Mutex;

use compiler::DType;
use compiler::program::Executable;
use compiler::region::{Content, Region, Regions};
use compiler::tile::{Contender, Contest, LowerOptions, Measurement, Tuning, contests};
use compiler::value::tensor::Tensor;

use super::arena::{ALIGNMENT, Arena, Cells};
use super::block::Kernel;
use super::error::ExecuteError;
use super::kernel::machine::Machine;
use super::launch::{launch, reserve, target};
use super::threads::{Threads, chunks, current, each};
use crate::clock::Clock;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TuneOptions {
    /// Threads; one per core if `None`.
    pub threads: Option<usize>,
    /// Whether sums stay sums, as in [`Options::exact`](super::Options::exact).
    pub exact: bool,
    /// The time that all measurements may take, roughly.
    pub seconds: f64,
    /// Regions of less than this share of the program's predicted time are left alone.
    pub share_min: f64,
    /// Ways to compute a region that are measured at most.
    pub contenders_max: usize,
}

/// Rounds of measurements; who is clearly slower takes part in no further one.
const ROUNDS: usize = 2;

/// Timed runs of a contender in each round; the fastest counts.
const RUNS: usize = 2;

/// More than so many times the best time is clearly slower.
const SLOWER: f64 = 1.15;

/// What is written between runs: more than the caches of most machines hold, since a program has
/// seen other weights when it comes back to a region.
const EVICTED_BYTES: usize = 64 << 20;

/// Elements that are made up; longer buffers repeat them.
const MADE: usize = 4093;

/// Measures the regions of `program` that `known` holds nothing of; those of the longest predicted
/// time first. Gives what is new. Calls `progress` with the regions done and those to do.
///
/// # Errors
/// When threads or memory cannot be had.
pub fn tune(
    program: &Executable,
    known: &Tuning,
    options: TuneOptions,
    clock: Clock<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tuning, ExecuteError> {
    let threads = Threads::new(options.threads)?;
    let machine = Machine::detect();
    let regions = program.regions();
    let target = target(machine, threads.install(current));
    let exact = LowerOptions {
        exact: options.exact,
    };
    let mut contests = contests(regions, &target, exact, options.contenders_max);
    let total: f64 = contests.iter().map(|contest| contest.seconds).sum();
    contests.retain(|contest| {
        let large = contest.seconds >= options.share_min * total;
        large && contest.contenders.len() > 1 && !known.cases.contains_key(&contest.case)
    });
    let mut tuning = Tuning::default();
    let until = clock() + options.seconds;
    let count = contests.len();
    let mut bench = Bench {
        regions,
        machine,
        clock,
        until,
        evicted: reserve("evicted caches", EVICTED_BYTES as u64)?,
    };
    for (done, contest) in contests.into_iter().enumerate() {
        progress(done, count);
        if clock() >= until {
            break;
        }
        let measured = threads.install(|| bench.contest(&contest));
        if let Some(measured) = measured {
            tuning.cases.insert(contest.case, measured);
        }
    }
    progress(count, count);
    Ok(tuning)
}

/// What all measurements share.
struct Bench<'a> {
    regions: &'a Regions,
    machine: Machine,
    clock: Clock<'a>,
    /// When measurements end.
    until: f64,
    evicted: Arena,
}

impl Bench<'_> {
    /// The times of all contenders that give numbers; `None` without memory, or if time ran out
    /// before each had its turn.
    fn contest(&mut self, contest: &Contest) -> Option<Vec<Measurement>> {
        let region = &self.regions.regions[contest.region.0 as usize];
        let buffers = Buffers::new(self.regions, region)?;
        let mut best = f64::INFINITY;
        let mut times = vec![f64::INFINITY; contest.contenders.len()];
        for round in 0..ROUNDS {
            for (contender, time) in contest.contenders.iter().zip(&mut times) {
                let late = (self.clock)() >= self.until;
                match (round, late) {
                    (0, true) => return None,
                    (0, false) => {}
                    (_, true) => break,
                    (_, false) if !time.is_finite() || *time > best * SLOWER => continue,
                    (_, false) => {}
                }
                let seconds = self.measure(contender, region, &buffers, best);
                *time = time.min(seconds.unwrap_or(f64::INFINITY));
                best = best.min(*time);
            }
        }
        let measured = contest.contenders.iter().zip(times);
        let measured = measured.filter(|(_, seconds)| seconds.is_finite());
        let measurement = |(contender, seconds): (&Contender, f64)| Measurement {
            program: contender.program.program.to_owned(),
            parameters: contender.parameters,
            seconds,
        };
        Some(measured.map(measurement).collect())
    }

    /// The time of the fastest run; the only one if it is far from `best`. `None` for what fails,
    /// lacks memory, or gives something else than numbers.
    fn measure(
        &mut self,
        contender: &Contender,
        region: &Region,
        buffers: &Buffers,
        best: f64,
    ) -> Option<f64> {
        let mut kernel = Kernel::new(&contender.program, region, self.regions, self.machine)?;
        let packable = kernel.packable();
        if !packable.is_empty() && packable.iter().all(|&buffer| buffers.fixed[buffer]) {
            kernel.pack(&buffers.cells).then_some(())?;
        } else {
            kernel.renew(self.regions).then_some(())?;
        }
        let mut fresh = Arena::new(kernel.fresh_floats() * size_of::<f32>())?;
        let scratch =
            (0..current()).map(|_| Arena::new(kernel.scratch * size_of::<f32>()).map(Mutex::new));
        let scratch: Vec<_> = scratch.collect::<Option<_>>()?;
        let mut fastest = f64::INFINITY;
        for run in 0..RUNS {
            self.evict();
            let before = (self.clock)();
            launch(&kernel, &buffers.cells, &scratch, &mut fresh).ok()?;
            fastest = fastest.min((self.clock)() - before);
            if run == 0 && !buffers.are_numbers(self.regions, region) {
                return None;
            }
            if fastest > 2.0 * best {
                break;
            }
        }
        Some(fastest)
    }

    /// Leaves nothing of what ran before in the caches.
    fn evict(&mut self) {
        let floats = self.evicted.as_floats_mut();
        let share = floats.len().div_ceil(current());
        each(chunks(floats, share), |(number, part)| {
            part.fill(number as f32);
        });
    }
}

/// The buffers of one region, with values that are made up.
struct Buffers {
    /// By number; of buffers that the region does not touch, nothing.
    cells: Vec<Cells>,
    /// Whether each is the same in every run.
    fixed: Vec<bool>,
    /// Where they lie: they point into it.
    _arena: Arena,
}

impl Buffers {
    fn new(regions: &Regions, region: &Region) -> Option<Buffers> {
        let touched = [region.reads(), region.stores()].concat();
        let bytes = |number: usize| {
            let extents = &regions.buffers[number].extents;
            (extents.elements() * extents.dtype.bytes()).next_multiple_of(ALIGNMENT)
        };
        let numbers = touched.iter().map(|buffer| buffer.0 as usize);
        let mut arena = Arena::new(numbers.map(bytes).sum())?;
        let made = made();
        let mut cells = Vec::with_capacity(regions.buffers.len());
        let mut fixed = Vec::with_capacity(regions.buffers.len());
        let mut offset = 0;
        for (number, data) in regions.buffers.iter().enumerate() {
            let dtype = data.extents.dtype;
            let touched = touched.iter().any(|buffer| buffer.0 as usize == number);
            let own = match (&data.content, touched) {
                (_, false) => arena.cells(0, dtype, 0),
                (Content::Constant(tensor), true) => Cells::of(tensor),
                (Content::Param(_) | Content::Computed, true) => {
                    let own = arena.cells(offset, dtype, data.extents.elements());
                    fill(own, &made);
                    own
                }
            };
            offset += if touched { bytes(number) } else { 0 };
            cells.push(own);
            fixed.push(data.is_fixed());
        }
        Some(Buffers {
            cells,
            fixed,
            _arena: arena,
        })
    }

    /// Whether everything that the region stored is finite.
    fn are_numbers(&self, regions: &Regions, region: &Region) -> bool {
        region.stores().into_iter().all(|buffer| {
            let extents = &regions.buffer(buffer).extents;
            let bytes = self.cells[buffer.0 as usize].to_bytes();
            match Tensor::new(extents.dtype, extents.shape.clone(), bytes.into()) {
                Ok(tensor) => finite(&tensor),
                Err(_) => false,
            }
        })
    }
}

fn finite(tensor: &Tensor) -> bool {
    let tensor = match tensor.dtype().is_float() {
        true => tensor.cast(DType::F32),
        false => return true,
    };
    let mut numbers = tensor.bytes().chunks_exact(size_of::<f32>());
    numbers.all(|bytes| {
        f32::from_le_bytes(bytes.try_into().expect("chunks have four bytes")).is_finite()
    })
}

/// Values that no operator of a network turns into anything but numbers: small, positive, and none
/// of them subnormal.
fn made() -> Vec<f32> {
    let value = |i: usize| (i * 2_654_435_761 % 1009 + 1) as f32 / 16_384.0;
    (0..MADE).map(value).collect()
}

/// Indices stay 0, which every table has.
fn fill(cells: Cells, made: &[f32]) {
    match cells.dtype {
        DType::F32 | DType::F16 | DType::BF16 => {}
        DType::F64 | DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => return,
    }
    for start in (0..cells.elements).step_by(MADE) {
        let count = MADE.min(cells.elements - start);
        cells.store(start, 1, &made[..count]);
    }
}
