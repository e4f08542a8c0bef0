//! Programs on a graphics processor: memory filled with weights, kernels with their arguments.
//!
//! Takes valid commands and weights one by one, gives a [`Loaded`] program. Addresses never change,
//! so that all launches of a run are recorded once and replayed as one. Calls are done in order; an
//! error may be told by a later call than the one that caused it.

use std::cell::OnceCell;
use std::ops::Range;

use compiler::value::tensor::Tensor;
use rayon::prelude::*;

use super::driver::{Context, Function, Graph, Memory, Refusal, Start, Window, seconds};
use super::processors::{Processor, failed};
use crate::clock::{Clock, RegionTime};
use crate::cuda::text;
use crate::gpu::commands::{Argument, Commands, Pool, Source};
use crate::gpu::elements::{ElementsError, Layout, encode};
use crate::gpu::error::DeviceError;
use crate::gpu::executor::Machine;
use crate::gpu::validate::Valid;

/// A program on a graphics processor.
pub(super) struct Loaded {
    /// All launches as one, once they ran; it goes before what it names.
    graph: OnceCell<Option<Graph>>,
    context: Context,
    /// What messages call the processor.
    adapter: String,
    commands: Valid,
    pools: Pools,
    /// The kernels with the invocations of a block, in the order of the commands.
    kernels: Vec<(Function, u32)>,
    /// The arguments of each launch.
    arguments: Vec<Vec<Window>>,
}

impl Drop for Loaded {
    /// Kernels and memory go once nothing uses them; nobody can be told of a failure here.
    fn drop(&mut self) {
        let _ = self.context.wait();
    }
}

struct Pools {
    arena: Vec<Memory>,
    weights: Vec<Memory>,
    states: Vec<Memory>,
}

/// Why a tensor is not written.
enum Put {
    Refused(Refusal),
    Elements(ElementsError),
}

impl From<ElementsError> for Put {
    fn from(error: ElementsError) -> Put {
        Put::Elements(error)
    }
}

impl Loaded {
    /// Loads a program: reserves its memory, asks `weights` for each weight and constant, one at a
    /// time, and assembles its kernels on all threads.
    ///
    /// # Errors
    /// When memory does not suffice, a weight is missing or of another type, or the driver fails.
    pub(super) fn new(
        processor: &Processor,
        valid: Valid,
        weights: &mut dyn FnMut(&Source) -> Option<Tensor>,
    ) -> Result<Loaded, DeviceError> {
        let adapter = &processor.name;
        let context = &processor.context;
        let commands = valid.commands();
        expect_memory(processor, commands)?;
        let reserve = |kind: &str, sizes: &[u64]| -> Result<Vec<Memory>, DeviceError> {
            let memory = sizes.iter().enumerate().map(|(number, &bytes)| {
                let what = format!("{kind} {number} of {bytes} bytes of {:?}", commands.name);
                context.reserve(bytes).map_err(failed(adapter, what))
            });
            memory.collect()
        };
        let pools = Pools {
            arena: reserve("slab", &commands.arena)?,
            weights: reserve("page", &commands.weights)?,
            states: reserve("state", &commands.states_bytes())?,
        };
        let kernels = commands.kernels.par_iter().map(|kernel| {
            let what = format!("kernel {:?} ({})", kernel.name, kernel.origin);
            let read = text::read(&kernel.text).expect("rules have read the text");
            let function = context.assemble(&kernel.text);
            let function = function.map_err(failed(adapter, what))?;
            Ok((function, read.invocations))
        });
        let kernels = kernels.collect::<Result<Vec<_>, DeviceError>>()?;
        let launches = commands.launches.iter().map(|launch| {
            let windows = launch.arguments.iter().map(|window| pools.of(window));
            windows.collect::<Result<Vec<_>, DeviceError>>()
        });
        let arguments = launches.collect::<Result<Vec<_>, DeviceError>>()?;
        let loaded = Loaded {
            context: context.clone(),
            adapter: adapter.clone(),
            pools,
            kernels,
            arguments,
            graph: OnceCell::new(),
            commands: valid,
        };
        loaded.upload(weights)?;
        Ok(loaded)
    }

    fn commands(&self) -> &Commands {
        self.commands.commands()
    }

    fn failed(&self, what: impl Into<String>) -> impl FnOnce(Refusal) -> DeviceError {
        failed(&self.adapter, what)
    }

    fn upload(
        &self,
        weights: &mut dyn FnMut(&Source) -> Option<Tensor>,
    ) -> Result<(), DeviceError> {
        for upload in &self.commands().uploads {
            let what = || upload.source.to_string();
            let tensor = weights(&upload.source);
            let tensor = tensor.ok_or_else(|| DeviceError::Missing { what: what() })?;
            let layout = Layout {
                extents: &upload.extents,
                order: &upload.order,
                stored: upload.stored,
            };
            let written = encode(&tensor, layout, |offset, bytes| {
                let part = Argument {
                    offset: upload.window.offset + offset,
                    bytes: bytes.len() as u64,
                    ..upload.window
                };
                let to = self.pools.of(&part).expect("rules have checked the window");
                self.context.write(to, bytes).map_err(Put::Refused)
            });
            written.map_err(|error| match error {
                Put::Refused(refusal) => self.failed(what())(refusal),
                Put::Elements(error) => DeviceError::Elements {
                    what: what(),
                    error,
                },
            })?;
        }
        self.context.wait().map_err(self.failed("weights"))
    }

    fn start(&self, launch: usize) -> Start<'_> {
        let own = &self.commands().launches[launch];
        let (function, invocations) = &self.kernels[own.kernel];
        Start {
            function,
            grid: own.grid,
            invocations: *invocations,
            windows: &self.arguments[launch],
        }
    }

    /// What fails when a run fails.
    fn running(&self) -> String {
        format!("running {:?}", self.commands().name)
    }
}

/// Refuses a program that needs more memory than is free.
fn expect_memory(processor: &Processor, commands: &Commands) -> Result<(), DeviceError> {
    let adapter = &processor.name;
    let memory = processor.context.memory();
    let (free, _) = memory.map_err(failed(adapter, "telling its memory"))?;
    let needed = commands.bytes();
    match needed <= free {
        true => Ok(()),
        false => {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let what = format!(
                "{:?}, which needs {:.2} GiB where {:.2} GiB are free",
                commands.name,
                gibibytes(needed),
                gibibytes(free)
            );
            let adapter = adapter.clone();
            Err(DeviceError::Memory { adapter, what })
        }
    }
}

impl Pools {
    fn of(&self, window: &Argument) -> Result<Window, DeviceError> {
        let pool = match window.pool {
            Pool::Arena => &self.arena,
            Pool::Weights => &self.weights,
            Pool::States => &self.states,
        };
        let memory = pool.get(window.buffer);
        let found = memory.and_then(|memory| memory.window(window.offset, window.bytes));
        found.ok_or(DeviceError::Window { window: *window })
    }
}

impl Machine for Loaded {
    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > window.bytes) {
            return Err(DeviceError::Window { window: *window });
        }
        let part = Argument {
            offset: window.offset + offset,
            bytes: bytes.len() as u64,
            ..*window
        };
        let to = self.pools.of(&part)?;
        let written = self.context.write(to, bytes);
        written.map_err(self.failed(format!("writing {window}")))
    }

    fn read(&self, window: &Argument) -> Result<Vec<u8>, DeviceError> {
        let from = self.pools.of(window)?;
        let read = self.context.read(from);
        read.map_err(self.failed(format!("reading {window}")))
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
        if launches.is_empty() {
            return Ok(());
        }
        if launches != (0..self.arguments.len()) {
            let mut starts = launches.map(|launch| self.context.start(self.start(launch)));
            return starts
                .try_for_each(|started| started)
                .map_err(self.failed(self.running()));
        }
        let graph = match self.graph.get() {
            Some(graph) => graph,
            None => {
                let starts = launches.clone().map(|launch| self.start(launch));
                let recorded = self.context.record(starts);
                let recorded = recorded.map_err(self.failed(self.running()))?;
                self.graph.get_or_init(|| recorded)
            }
        };
        let Some(graph) = graph else {
            return Ok(());
        };
        let replayed = self.context.replay(graph);
        replayed.map_err(self.failed(self.running()))
    }

    fn copy(&self, copies: &[(Argument, Argument)], to: &Loaded) -> Result<(), DeviceError> {
        let failed = || self.failed(format!("copying {} windows", copies.len()));
        let copies = copies.iter().filter(|(from, _)| from.bytes > 0);
        let copies: Vec<&(Argument, Argument)> = copies.collect();
        let windows = copies.iter();
        let windows = windows.map(|(from, into)| Ok((self.pools.of(from)?, to.pools.of(into)?)));
        let windows = windows.collect::<Result<Vec<_>, DeviceError>>()?;
        if !std::ptr::eq(self, to) {
            for (from, into) in windows {
                self.context.copy(from, into).map_err(failed())?;
            }
            return Ok(());
        }
        // The driver reserves nothing of no bytes.
        if windows.is_empty() {
            return Ok(());
        }
        // A window may be read and written: all are read first.
        let bytes = copies.iter().map(|(from, _)| from.bytes);
        let sizes: Vec<u64> = bytes.collect();
        let between = self.context.reserve(sizes.iter().sum());
        let between = between.map_err(failed())?;
        let mut offset = 0;
        let parts = sizes.iter().map(|&bytes| {
            let part = between.window(offset, bytes);
            offset += bytes;
            part.expect("it was reserved for all")
        });
        let parts: Vec<Window> = parts.collect();
        for ((from, _), part) in windows.iter().zip(&parts) {
            self.context.copy(*from, *part).map_err(failed())?;
        }
        for ((_, into), part) in windows.iter().zip(&parts) {
            self.context.copy(*part, *into).map_err(failed())?;
        }
        Ok(())
    }

    /// By the processor's own clock.
    fn profile(&self, _: Clock<'_>) -> Result<Vec<RegionTime>, DeviceError> {
        let failed = || self.failed(self.running());
        let count = self.arguments.len();
        let mut marks = Vec::with_capacity(count + 1);
        marks.push(self.context.mark().map_err(failed())?);
        for launch in 0..count {
            self.context.start(self.start(launch)).map_err(failed())?;
            marks.push(self.context.mark().map_err(failed())?);
        }
        self.context.wait().map_err(failed())?;
        let times = marks.windows(2).zip(&self.commands().launches);
        let times = times.map(|(pair, launch)| {
            Ok(RegionTime {
                region: launch.region,
                seconds: seconds(&pair[0], &pair[1])?,
            })
        });
        times.collect::<Result<Vec<_>, Refusal>>().map_err(failed())
    }
}
