//! Devices: an adapter, opened for what some commands require.
//!
//! Takes a choice and requirements, gives a [`Device`] that was granted nothing else, with the
//! kernels that it has prepared so far. Absence, loss and lack of memory are errors; no driver
//! panics through here.

mod adapters;
mod batches;
mod found;
mod loaded;
pub(crate) mod opened;
mod profile;
mod transfer;
mod watch;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use compiler::target::Limits;

use crate::gpu::commands::{Binding, Commands, ENTRY_POINT, Kernel, Requirements};

pub use crate::gpu::error::DeviceError;
use adapters::find;
pub use adapters::{Adapter, Choice, Kind, adapter, adapters};
pub(crate) use found::found;
pub use loaded::Loaded;
use watch::Watch;

/// How a device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// On which adapter.
    pub adapter: Choice,
    /// Whether launches will be timed by the adapter's own clock, where it has one.
    pub profile: bool,
}

/// An open device; clones are the same one.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

/// What clones share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) adapter: Adapter,
    granted: Requirements,
    watch: Arc<Watch>,
    /// Whether the adapter's clock is in use.
    pub(super) timestamps: bool,
    prepared: Mutex<Prepared>,
}

/// What was made of kernels, so that programs of one device share it.
#[derive(Debug, Default)]
struct Prepared {
    layouts: HashMap<Vec<Binding>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    pipelines: HashMap<(String, Vec<Binding>), wgpu::ComputePipeline>,
}

/// Bytes of the stack of threads that prepare kernels: readers of WGSL recurse.
const STACK_BYTES: usize = 8 << 20;

impl Device {
    /// Opens a device that grants what is required, and no more.
    ///
    /// # Errors
    /// When there is no such adapter, when it lacks something, or its driver fails.
    pub fn open(options: &Options, requirements: &Requirements) -> Result<Device, DeviceError> {
        let (adapter, handle) = find(&options.adapter)?;
        let lacks = |lack| DeviceError::Lacks {
            adapter: adapter.name.clone(),
            program: "what is to run".to_owned(),
            lack,
        };
        adapter.grants.grant(requirements).map_err(lacks)?;
        let timestamps = options.profile && adapter.timestamp_query;
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::SHADER_F16, requirements.shader_f16);
        features.set(wgpu::Features::TIMESTAMP_QUERY, timestamps);
        let opened = pollster::block_on(handle.request_device(&wgpu::DeviceDescriptor {
            label: Some("splamc"),
            required_features: features,
            required_limits: limits(&requirements.limits),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            // Slabs and pages are few and large: blocks of a driver's own would stay half empty.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        }));
        let (device, queue) = opened.map_err(|error| DeviceError::Open {
            adapter: adapter.name.clone(),
            reason: error.to_string(),
        })?;
        let watch = Watch::over(&device);
        Ok(Device {
            inner: Arc::new(Inner {
                device,
                queue,
                adapter,
                granted: *requirements,
                watch,
                timestamps,
                prepared: Mutex::default(),
            }),
        })
    }

    /// The adapter that it was opened on.
    pub fn adapter(&self) -> &Adapter {
        &self.inner.adapter
    }

    /// Gives the device up: what is asked of it afterwards fails with [`DeviceError::Lost`].
    pub fn close(&self) {
        self.inner.device.destroy();
        self.inner.watch.lose("it was closed");
    }

    /// Waits until all that was asked so far is done.
    ///
    /// # Errors
    /// When the device failed at it.
    pub fn finished(&self) -> Result<(), DeviceError> {
        self.inner.wait(None, || "its work".to_owned())
    }
}

/// The limits that are asked for; those of graphics are as low as they can be.
fn limits(asked: &Limits) -> wgpu::Limits {
    let least = wgpu::Limits::downlevel_webgl2_defaults();
    let buffers = asked.buffers_max;
    wgpu::Limits {
        max_storage_buffer_binding_size: asked.binding_bytes_max,
        // Buffers that results pass through are no larger than slabs, times of a batch no larger
        // than this.
        max_buffer_size: asked.buffer_bytes_max.max(4096),
        max_storage_buffers_per_shader_stage: buffers,
        max_buffers_and_acceleration_structures_per_shader_stage: least
            .max_buffers_and_acceleration_structures_per_shader_stage
            .max(buffers),
        max_compute_workgroup_storage_size: asked.shared_bytes_max,
        max_compute_invocations_per_workgroup: asked.invocations_max,
        max_compute_workgroup_size_x: asked.invocations_max,
        max_compute_workgroup_size_y: 1,
        max_compute_workgroup_size_z: 1,
        max_compute_workgroups_per_dimension: asked.groups_max,
        ..least
    }
}

impl Inner {
    /// The adapter's name, for messages.
    fn name(&self) -> &str {
        &self.adapter.name
    }

    /// Whether all went well so far.
    pub(super) fn check(&self, what: impl FnOnce() -> String) -> Result<(), DeviceError> {
        self.watch.check(self.name(), what)
    }

    /// Checks that the device was opened for such commands.
    pub(super) fn suffices(&self, commands: &Commands) -> Result<(), DeviceError> {
        let granted = self.granted.grant(&commands.requirements);
        granted.map_err(|lack| DeviceError::Lacks {
            adapter: self.name().to_owned(),
            program: format!("{:?}", commands.name),
            lack,
        })
    }

    /// Waits for one submission, or for all.
    pub(super) fn wait(
        &self,
        submission: Option<wgpu::SubmissionIndex>,
        what: impl FnOnce() -> String,
    ) -> Result<(), DeviceError> {
        let poll = wgpu::PollType::Wait {
            submission_index: submission,
            timeout: None,
        };
        // The driver's library panics where it cannot wait for a device that is gone.
        let waited = catch_unwind(AssertUnwindSafe(|| self.device.poll(poll)));
        match waited {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.watch.lose(&error.to_string()),
            Err(_) => self.watch.lose("it does not answer"),
        }
        self.check(what)
    }

    /// The layout of the arguments of kernels with these bindings.
    pub(super) fn layout(&self, bindings: &[Binding]) -> wgpu::BindGroupLayout {
        self.layouts(&mut self.prepared(), bindings).0
    }

    fn prepared(&self) -> MutexGuard<'_, Prepared> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layouts(
        &self,
        prepared: &mut Prepared,
        bindings: &[Binding],
    ) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let make = || {
            let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..).zip(bindings).map(entry).collect();
            let group = wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            };
            let group = self.device.create_bind_group_layout(&group);
            let layout = wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            };
            let layout = self.device.create_pipeline_layout(&layout);
            (group, layout)
        };
        let known = prepared.layouts.entry(bindings.to_vec());
        known.or_insert_with(make).clone()
    }

    /// Prepares kernels on several threads, each text once.
    ///
    /// # Errors
    /// When the driver refuses one, which naga did not.
    pub(super) fn pipelines(
        &self,
        kernels: &[Kernel],
    ) -> Result<Vec<wgpu::ComputePipeline>, DeviceError> {
        let mut prepared = self.prepared();
        let key = |kernel: &Kernel| (kernel.text.clone(), kernel.bindings.clone());
        let mut keys = HashSet::new();
        let mut wanted = Vec::new();
        for kernel in kernels {
            if !prepared.pipelines.contains_key(&key(kernel)) && keys.insert(key(kernel)) {
                let (_, layout) = self.layouts(&mut prepared, &kernel.bindings);
                wanted.push((kernel, layout));
            }
        }
        let made = Mutex::new(Vec::with_capacity(wanted.len()));
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((kernel, layout)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pipeline = self.pipeline(kernel, layout);
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                made.push((key(kernel), pipeline));
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads.min(wanted.len()) {
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                // Where there is no thread to be had, the others do its work.
                drop(thread.spawn_scoped(scope, work));
            }
        });
        work();
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.check(|| "kernels".to_owned())?;
        prepared.pipelines.extend(made);
        let pipeline = |kernel| prepared.pipelines.get(&key(kernel)).cloned();
        let all: Option<Vec<wgpu::ComputePipeline>> = kernels.iter().map(pipeline).collect();
        Ok(all.expect("every kernel was prepared, now or before"))
    }

    fn pipeline(&self, kernel: &Kernel, layout: &wgpu::PipelineLayout) -> wgpu::ComputePipeline {
        let module = wgpu::ShaderModuleDescriptor {
            label: Some(&kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.text.as_str().into()),
        };
        let module = self.device.create_shader_module(module);
        let pipeline = wgpu::ComputePipelineDescriptor {
            label: Some(&kernel.name),
            layout: Some(layout),
            module: &module,
            entry_point: Some(ENTRY_POINT),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Kernels store to shared memory before they load from it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        };
        self.device.create_compute_pipeline(&pipeline)
    }
}

/// A storage buffer at one number.
fn entry((number, binding): (u32, &Binding)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: number,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage {
                read_only: match binding {
                    Binding::Read => true,
                    Binding::ReadWrite => false,
                },
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
