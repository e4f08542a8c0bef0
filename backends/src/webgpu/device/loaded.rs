//! Programs on a device: buffers filled with weights, kernels with their arguments.
//!
//! Takes valid commands and weights one by one, gives a [`Loaded`] program that is written to, run
//! and read from. Calls are done in order; an error may be told by a later call than the one that
//! caused it.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, mpsc};

use compiler::region::RegionId;
use compiler::tensor::Tensor;

use crate::cpu::Clock;

use super::super::commands::{Argument, Commands, Launch, Pool, Port, Source};
use super::super::elements::{ElementsError, Layout, decode, encode};
use super::super::executor::Machine;
use super::super::validate::Valid;
use super::{Device, DeviceError, Inner};

/// A program on a device.
#[derive(Debug)]
pub struct Loaded {
    device: Device,
    commands: Valid,
    buffers: Buffers,
    /// A pipeline and its arguments for each launch.
    steps: Vec<(wgpu::ComputePipeline, wgpu::BindGroup)>,
}

#[derive(Debug)]
struct Buffers {
    arena: Vec<wgpu::Buffer>,
    weights: Vec<wgpu::Buffer>,
}

/// The time that one launch took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaunchTime {
    /// Index of the launch.
    pub launch: usize,
    /// What it computes.
    pub region: RegionId,
    /// How long it took.
    pub seconds: f64,
}

/// Launches that are submitted together at most: each submission costs the host some 50 µs.
const BATCH: usize = 32;

/// Operations that are submitted together at most, unless one launch has more: drivers reset a
/// device that works on one submission for two seconds, and the slowest do 50 GFLOP in a second.
const BATCH_FLOPS: u64 = 10_000_000_000;

/// Submissions that wait on the device at a time: enough to keep it busy, few enough to stop.
const IN_FLIGHT: usize = 3;

/// Bytes of weights that wait in the driver's buffers at a time.
const STAGED_BYTES: u64 = 64 << 20;

impl Device {
    /// Loads a program: reserves its buffers, asks `weights` for each weight and constant, one at
    /// a time, and prepares its kernels.
    ///
    /// # Errors
    /// When the device was opened for less than the commands require, a weight is missing or of
    /// another type, memory is short, or the device fails.
    pub fn load(
        &self,
        commands: Valid,
        weights: &mut dyn FnMut(&Source) -> Option<Tensor>,
    ) -> Result<Loaded, DeviceError> {
        let inner = &self.inner;
        inner.check(|| "its work".to_owned())?;
        inner.suffices(commands.commands())?;
        let pipelines = inner.pipelines(&commands.commands().kernels)?;
        let buffers = Buffers {
            arena: inner.buffers("slab", &commands.commands().arena)?,
            weights: inner.buffers("page", &commands.commands().weights)?,
        };
        inner.upload(commands.commands(), &buffers, weights)?;
        let launches = commands.commands().launches.iter();
        let steps = launches
            .map(|launch| {
                let kernel = &commands.commands().kernels[launch.kernel];
                let layout = inner.layout(&kernel.bindings);
                let group = inner.bind(&layout, launch, &buffers);
                (pipelines[launch.kernel].clone(), group)
            })
            .collect();
        inner.check(|| "the arguments of kernels".to_owned())?;
        Ok(Loaded {
            device: self.clone(),
            commands,
            buffers,
            steps,
        })
    }
}

impl Machine for Loaded {
    type Error = DeviceError;

    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.write_bytes(window, offset, bytes)
    }

    fn read(&self, window: &Argument) -> Result<Vec<u8>, DeviceError> {
        self.read_bytes(window)
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
        Loaded::launch(self, launches)
    }
}

impl Buffers {
    /// The buffer of a window, which rules have checked.
    fn of(&self, window: &Argument) -> &wgpu::Buffer {
        match window.pool {
            Pool::Arena => &self.arena[window.buffer],
            Pool::Weights => &self.weights[window.buffer],
        }
    }
}

impl Inner {
    fn buffers(&self, kind: &str, sizes: &[u64]) -> Result<Vec<wgpu::Buffer>, DeviceError> {
        let mut buffers = Vec::with_capacity(sizes.len());
        for (number, &size) in sizes.iter().enumerate() {
            buffers.push(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&format!("{kind} {number}")),
                size,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }));
            self.check(|| {
                let before: u64 = sizes[..number].iter().sum();
                format!("{kind} {number} of {size} bytes, after {before} bytes of others")
            })?;
        }
        Ok(buffers)
    }

    fn bind(
        &self,
        layout: &wgpu::BindGroupLayout,
        launch: &Launch,
        buffers: &Buffers,
    ) -> wgpu::BindGroup {
        let entries = (0..).zip(&launch.arguments);
        let entries: Vec<wgpu::BindGroupEntry> = entries
            .map(|(binding, window)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: buffers.of(window),
                    offset: window.offset,
                    size: NonZeroU64::new(window.bytes),
                }),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        })
    }

    /// Writes weights and constants; the host holds one of them, and some MiB that the driver has
    /// not taken yet.
    fn upload(
        &self,
        commands: &Commands,
        buffers: &Buffers,
        weights: &mut dyn FnMut(&Source) -> Option<Tensor>,
    ) -> Result<(), DeviceError> {
        let mut staged = 0;
        for upload in &commands.uploads {
            let what = || upload.source.to_string();
            let tensor =
                weights(&upload.source).ok_or_else(|| DeviceError::Missing { what: what() })?;
            let layout = Layout {
                extents: &upload.extents,
                order: &upload.order,
                stored: upload.stored,
            };
            self.put(&tensor, layout, buffers, &upload.window, &mut staged, what)?;
        }
        self.queue.submit([]);
        self.wait(None, || "weights".to_owned())
    }

    /// Writes a tensor to its window; `staged` counts what the driver holds.
    fn put(
        &self,
        tensor: &Tensor,
        layout: Layout,
        buffers: &Buffers,
        window: &Argument,
        staged: &mut u64,
        what: impl Fn() -> String,
    ) -> Result<(), DeviceError> {
        let buffer = buffers.of(window);
        let written = encode(tensor, layout, |offset, bytes| {
            self.queue
                .write_buffer(buffer, window.offset + offset, bytes);
            *staged += bytes.len() as u64;
            if *staged > STAGED_BYTES {
                *staged = 0;
                self.queue.submit([]);
                self.wait(None, &what).map_err(Put::Device)?;
            }
            Ok(())
        });
        written.map_err(|error| match error {
            Put::Device(error) => error,
            Put::Elements(error) => DeviceError::Elements {
                what: what(),
                error,
            },
        })
    }

    /// Reads a window back.
    fn download(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, DeviceError> {
        let what = || format!("reading {bytes} bytes back");
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        self.check(what)?;
        let (give, mapped) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody listens any more only after another failure.
            drop(give.send(result));
        });
        self.wait(None, what)?;
        let reason = match mapped.try_recv() {
            Ok(Ok(())) => match staging.get_mapped_range(..) {
                Ok(view) => return Ok(view.to_vec()),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(DeviceError::Refused {
            adapter: self.adapter.name.clone(),
            what: what(),
            reason,
        })
    }
}

/// Why a tensor is not written.
enum Put {
    Device(DeviceError),
    Elements(ElementsError),
}

impl From<ElementsError> for Put {
    fn from(error: ElementsError) -> Put {
        Put::Elements(error)
    }
}

impl Loaded {
    /// The commands that it was loaded from.
    pub fn commands(&self) -> &Commands {
        self.commands.commands()
    }

    /// The device that it was loaded on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Writes an input of the next run; it stays until it is written again, unless a launch
    /// stores to the same bytes.
    ///
    /// # Errors
    /// When there is no such input, the tensor is of another type, or an integer needs more than
    /// 32 bits.
    pub fn write(&self, input: &str, tensor: &Tensor) -> Result<(), DeviceError> {
        let port = self.input(input)?;
        let order: Vec<usize> = (0..port.extents.shape.len()).collect();
        let layout = Layout {
            extents: &port.extents,
            order: &order,
            stored: port.stored,
        };
        let (inner, what) = (&self.device.inner, || format!("input {input:?}"));
        inner.put(tensor, layout, &self.buffers, &port.window(), &mut 0, what)?;
        inner.check(what)
    }

    /// Starts all launches in order; does not wait for the last of them.
    ///
    /// # Errors
    /// When the host has to compute something between them, which an executor does, when the
    /// device failed before, or fails to begin.
    pub fn run(&self) -> Result<(), DeviceError> {
        if let Some(hosted) = self.commands().hosted.first() {
            return Err(DeviceError::Hosted {
                program: self.commands().name.clone(),
                region: hosted.region,
            });
        }
        self.launch(0..self.steps.len())
    }

    /// Starts some of the launches in order; does not wait for the last of them.
    ///
    /// # Errors
    /// When the device failed before or fails to begin.
    ///
    /// # Panics
    /// When there are not so many launches.
    pub fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
        let inner = &self.device.inner;
        let mut waiting = VecDeque::new();
        for batch in self.batches(launches) {
            waiting.push_back(self.submit(batch));
            if waiting.len() > IN_FLIGHT {
                inner.wait(waiting.pop_front(), || self.running())?;
            }
        }
        inner.check(|| self.running())
    }

    /// Writes bytes to a window, beginning at `offset` in it.
    ///
    /// # Errors
    /// When they do not lie in a buffer of the program, or the device failed.
    pub fn write_bytes(
        &self,
        window: &Argument,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > window.bytes) {
            return Err(DeviceError::Window { window: *window });
        }
        let buffer = self.window(window)?;
        let inner = &self.device.inner;
        inner
            .queue
            .write_buffer(buffer, window.offset + offset, bytes);
        inner.check(|| format!("writing {window}"))
    }

    /// Reads the bytes of a window once everything before is done.
    ///
    /// # Errors
    /// When it does not lie in a buffer of the program, or the device failed.
    pub fn read_bytes(&self, window: &Argument) -> Result<Vec<u8>, DeviceError> {
        let buffer = self.window(window)?;
        match window.bytes {
            0 => Ok(Vec::new()),
            bytes => self.device.inner.download(buffer, window.offset, bytes),
        }
    }

    /// The buffer that a window lies in.
    fn window(&self, window: &Argument) -> Result<&wgpu::Buffer, DeviceError> {
        let bytes = self.commands().buffer_bytes(window);
        let end = window.offset.checked_add(window.bytes);
        match bytes.zip(end) {
            Some((bytes, end)) if end <= bytes => Ok(self.buffers.of(window)),
            Some(_) | None => Err(DeviceError::Window { window: *window }),
        }
    }

    /// Launches cut into what is submitted together.
    fn batches(&self, launches: Range<usize>) -> Vec<Range<usize>> {
        let work: Vec<u64> = self.commands().launches[launches.clone()]
            .iter()
            .map(|launch| launch.flops)
            .collect();
        batches(&work)
            .into_iter()
            .map(|batch| launches.start + batch.start..launches.start + batch.end)
            .collect()
    }

    /// Starts a batch of launches.
    fn submit(&self, launches: Range<usize>) -> wgpu::SubmissionIndex {
        let inner = &self.device.inner;
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for launch in launches {
            self.dispatch(&mut pass, launch);
        }
        drop(pass);
        inner.queue.submit([encoder.finish()])
    }

    /// Reads a result of the last run, waiting for it.
    ///
    /// # Errors
    /// When there is no such result, or the device failed.
    pub fn read(&self, output: &str) -> Result<Tensor, DeviceError> {
        let port = self.output(output)?;
        let bytes = self.read_bytes(&port.window())?;
        decode(&bytes, &port.extents, port.stored).map_err(|error| DeviceError::Elements {
            what: format!("result {output:?}"),
            error,
        })
    }

    /// Makes a result the input of another program of the same device, or of this one, without a
    /// detour over the host.
    ///
    /// # Errors
    /// When there is no such result or input, or they do not lie alike.
    pub fn copy(&self, output: &str, to: &Loaded, input: &str) -> Result<(), DeviceError> {
        let (from, into) = (self.output(output)?, to.input(input)?);
        let alike = from.extents == into.extents && from.stored == into.stored;
        if !alike || !Arc::ptr_eq(&self.device.inner, &to.device.inner) {
            return Err(DeviceError::Copy {
                output: output.to_owned(),
                input: input.to_owned(),
            });
        }
        if from.bytes == 0 {
            return Ok(());
        }
        let inner = &self.device.inner;
        // WebGPU copies from one buffer to another only: a slab may hold both.
        let between = inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("copy"),
            size: from.bytes,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        let source = self.buffers.of(&from.window());
        encoder.copy_buffer_to_buffer(source, from.offset, &between, 0, from.bytes);
        let target = to.buffers.of(&into.window());
        encoder.copy_buffer_to_buffer(&between, 0, target, into.offset, into.bytes);
        inner.queue.submit([encoder.finish()]);
        inner.check(|| format!("copying {output:?} to {input:?}"))
    }

    /// Runs all launches and tells how long each took: by the adapter's clock where the device was
    /// opened for it, else one by one by `clock`, with what it costs to start and to wait. What the
    /// host computes between them stays as it was.
    ///
    /// # Errors
    /// When the device failed.
    pub fn profile(&self, clock: Clock) -> Result<Vec<LaunchTime>, DeviceError> {
        let inner = &self.device.inner;
        inner.wait(None, || self.running())?;
        let mut times = Vec::with_capacity(self.steps.len());
        for batch in self.batches(0..self.steps.len()) {
            let seconds = match inner.timestamps {
                true => self.timed_by_device(batch.clone())?,
                false => self.timed_by_host(batch.clone(), clock)?,
            };
            let pairs = batch.zip(seconds);
            times.extend(pairs.map(|(launch, seconds)| LaunchTime {
                launch,
                region: self.commands().launches[launch].region,
                seconds,
            }));
        }
        Ok(times)
    }

    /// What fails when a run fails.
    fn running(&self) -> String {
        format!("running {:?}", self.commands().name)
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass, launch: usize) {
        let (pipeline, group) = &self.steps[launch];
        let [x, y, z] = self.commands().launches[launch].grid;
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }

    fn timed_by_host(&self, launches: Range<usize>, clock: Clock) -> Result<Vec<f64>, DeviceError> {
        let mut seconds = Vec::with_capacity(launches.len());
        for launch in launches {
            let start = clock();
            self.submit(launch..launch + 1);
            self.device.inner.wait(None, || self.running())?;
            seconds.push(clock() - start);
        }
        Ok(seconds)
    }

    fn timed_by_device(&self, launches: Range<usize>) -> Result<Vec<f64>, DeviceError> {
        let inner = &self.device.inner;
        let queries = 2 * launches.len() as u32;
        let bytes = u64::from(queries) * u64::from(wgpu::QUERY_SIZE);
        let set = inner.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: queries,
        });
        let ticks = inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("times"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        for (launch, query) in launches.zip((0..).step_by(2)) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                }),
            });
            self.dispatch(&mut pass, launch);
        }
        encoder.resolve_query_set(&set, 0..queries, &ticks, 0);
        inner.queue.submit([encoder.finish()]);
        inner.check(|| self.running())?;
        let nanoseconds = f64::from(inner.queue.get_timestamp_period());
        let ticks = inner.download(&ticks, 0, bytes)?;
        let (ticks, _) = ticks.as_chunks::<8>();
        let ticks: Vec<u64> = ticks.iter().map(|tick| u64::from_le_bytes(*tick)).collect();
        let (pairs, _) = ticks.as_chunks::<2>();
        let seconds =
            |[begin, end]: &[u64; 2]| end.saturating_sub(*begin) as f64 * nanoseconds * 1e-9;
        Ok(pairs.iter().map(seconds).collect())
    }

    fn input(&self, name: &str) -> Result<&Port, DeviceError> {
        self.port(&self.commands().inputs, "input", name)
    }

    fn output(&self, name: &str) -> Result<&Port, DeviceError> {
        self.port(&self.commands().outputs, "result", name)
    }

    fn port<'a>(
        &self,
        ports: &'a [Port],
        kind: &'static str,
        name: &str,
    ) -> Result<&'a Port, DeviceError> {
        let port = ports.iter().find(|port| port.name == name);
        port.ok_or_else(|| DeviceError::NoPort {
            program: self.commands().name.clone(),
            kind,
            name: name.to_owned(),
        })
    }
}

/// Cuts a list of work into batches that respect [`BATCH`] and [`BATCH_FLOPS`].
fn batches(flops: &[u64]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut sum = 0u64;
    for (launch, &flops) in flops.iter().enumerate() {
        sum = sum.saturating_add(flops);
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && sum <= BATCH_FLOPS => batch.end = launch + 1,
            Some(_) | None => {
                sum = flops;
                batches.push(launch..launch + 1);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_short_and_light() {
        let half = BATCH_FLOPS / 2;
        let rows: [(Vec<u64>, Vec<Range<usize>>); 4] = [
            (Vec::new(), Vec::new()),
            (vec![0; BATCH + 1], vec![0..BATCH, BATCH..BATCH + 1]),
            (vec![half, half, 1, half, half], vec![0..2, 2..4, 4..5]),
            (vec![u64::MAX, u64::MAX, 1], vec![0..1, 1..2, 2..3]),
        ];
        for (flops, wanted) in rows {
            assert_eq!(batches(&flops), wanted, "{flops:?}");
        }
    }
}
