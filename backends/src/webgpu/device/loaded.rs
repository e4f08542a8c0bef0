//! Programs on a device: buffers filled with weights, kernels with their arguments.
//!
//! Takes valid commands and weights one by one, gives a [`Loaded`] program that is written to, run
//! and read from. Calls are done in order; an error may be told by a later call than the one that
//! caused it.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;

use compiler::value::tensor::Tensor;

use super::batches::batches;
use super::{Device, DeviceError, Inner};
use crate::clock::{Clock, RegionTime};
use crate::gpu::commands::{Argument, Commands, Launch, Pool, Source};
use crate::gpu::elements::Layout;
use crate::gpu::executor::Machine;
use crate::gpu::validate::Valid;

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
    states: Vec<wgpu::Buffer>,
}

/// Submissions that wait on the device at a time: enough to keep it busy, few enough to stop.
const IN_FLIGHT: usize = 3;

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
            states: inner.buffers("state", &commands.commands().states_bytes())?,
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
    fn write(&self, window: &Argument, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
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

    fn read(&self, window: &Argument) -> Result<Vec<u8>, DeviceError> {
        let buffer = self.window(window)?;
        match window.bytes {
            0 => Ok(Vec::new()),
            bytes => self.device.inner.download(buffer, window.offset, bytes),
        }
    }

    fn launch(&self, launches: Range<usize>) -> Result<(), DeviceError> {
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

    fn copy(&self, copies: &[(Argument, Argument)], to: &Loaded) -> Result<(), DeviceError> {
        let inner = &self.device.inner;
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        let mut second = Vec::with_capacity(copies.len());
        for (from, into) in copies.iter().filter(|(from, _)| from.bytes > 0) {
            let (source, target) = (self.buffers.of(from), to.buffers.of(into));
            if !std::ptr::eq(self, to) {
                encoder.copy_buffer_to_buffer(source, from.offset, target, into.offset, from.bytes);
                continue;
            }
            // WebGPU copies from one buffer to another only: a slab may hold both.
            let between = inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("copy"),
                size: from.bytes,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(source, from.offset, &between, 0, from.bytes);
            second.push((between, target, into));
        }
        for (between, target, into) in &second {
            encoder.copy_buffer_to_buffer(between, 0, target, into.offset, into.bytes);
        }
        inner.queue.submit([encoder.finish()]);
        inner.check(|| format!("copying {} windows", copies.len()))
    }

    fn profile(&self, clock: Clock<'_>) -> Result<Vec<RegionTime>, DeviceError> {
        self.times(clock)
    }
}

impl Buffers {
    /// The buffer of a window, which rules have checked.
    fn of(&self, window: &Argument) -> &wgpu::Buffer {
        match window.pool {
            Pool::Arena => &self.arena[window.buffer],
            Pool::Weights => &self.weights[window.buffer],
            Pool::States => &self.states[window.buffer],
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
            let buffer = buffers.of(&upload.window);
            self.put(&tensor, layout, buffer, &upload.window, &mut staged, what)?;
        }
        self.queue.submit([]);
        self.wait(None, || "weights".to_owned())
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
    pub(super) fn batches(&self, launches: Range<usize>) -> Vec<Range<usize>> {
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
    pub(super) fn submit(&self, launches: Range<usize>) -> wgpu::SubmissionIndex {
        let inner = &self.device.inner;
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for launch in launches {
            self.dispatch(&mut pass, launch);
        }
        drop(pass);
        inner.queue.submit([encoder.finish()])
    }

    /// What fails when a run fails.
    pub(super) fn running(&self) -> String {
        format!("running {:?}", self.commands().name)
    }

    pub(super) fn dispatch(&self, pass: &mut wgpu::ComputePass, launch: usize) {
        let (pipeline, group) = &self.steps[launch];
        let [x, y, z] = self.commands().launches[launch].grid;
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}
