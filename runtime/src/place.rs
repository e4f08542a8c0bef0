//! Where programs run: this machine's processor, or a WebGPU adapter.
//!
//! Takes what a user wants, gives a [`Place`] that sessions are opened at. Opening an adapter is
//! the only thing that can fail here.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

#[cfg(feature = "webgpu")]
use backends::device::Adapter;
use backends::device::{Device, Interpreter, Processor};
#[cfg(feature = "webgpu")]
use backends::gpu::commands::Requirements;
use backends::webgpu::WGSL;
#[cfg(feature = "webgpu")]
use backends::webgpu::device as webgpu;

pub use backends::cpu::Options;
#[cfg(feature = "webgpu")]
pub use backends::webgpu::device::{Choice, DeviceError};

#[cfg(feature = "webgpu")]
use crate::artifact::Artifact;

/// Bytes that one binding has at most, whatever an adapter grants: kernels count elements, of which
/// the smallest has two bytes, in 31 bits.
#[cfg(feature = "webgpu")]
const BINDING_BYTES_MAX: u64 = 2 << 30;

/// Where a session runs.
#[derive(Debug, Clone)]
pub enum Place {
    /// This machine's processor.
    Cpu(Options),
    /// A WebGPU adapter.
    #[cfg(feature = "webgpu")]
    WebGpu(WebGpu),
    /// The interpreter of kernels: what an adapter would run, instruction by instruction, with
    /// races and bounds checked. For finding faults; it is some thousand times slower.
    Interpreter,
}

impl Place {
    /// The device.
    pub(crate) fn device(&self) -> Arc<dyn Device> {
        match self {
            Place::Cpu(options) => Arc::new(Processor(*options)),
            #[cfg(feature = "webgpu")]
            Place::WebGpu(place) => Arc::new(place.adapter.clone()),
            Place::Interpreter => Arc::new(Interpreter(&WGSL)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu(options) => {
                let threads = options.threads.or_else(|| {
                    let cores = std::thread::available_parallelism();
                    cores.ok().map(NonZeroUsize::get)
                });
                write!(f, "{} threads", threads.unwrap_or(1))
            }
            #[cfg(feature = "webgpu")]
            Place::WebGpu(place) => write!(f, "the adapter {}", place.name()),
            Place::Interpreter => f.write_str("the interpreter"),
        }
    }
}

/// An open WebGPU device, what it grants, and the artifact whose programs it runs, if they are
/// one's.
#[cfg(feature = "webgpu")]
#[derive(Debug, Clone)]
pub struct WebGpu {
    adapter: Adapter,
    pub(crate) artifact: Option<Arc<Artifact>>,
}

#[cfg(feature = "webgpu")]
impl WebGpu {
    /// Opens an adapter with the limits that every one grants, and larger buffers where this one
    /// has them. `shader_f16` asks for 16-bit floats in kernels, `profile` for its clock.
    ///
    /// # Errors
    /// When there is no such adapter, it has no 16-bit floats, or its driver fails.
    pub fn open(adapter: Choice, shader_f16: bool, profile: bool) -> Result<WebGpu, DeviceError> {
        let options = webgpu::Options { adapter, profile };
        let found = webgpu::adapter(&options.adapter)?;
        let mut requirements = Requirements::DEFAULT;
        requirements.shader_f16 = shader_f16;
        let granted = found.grants.limits;
        let limits = &mut requirements.limits;
        limits.binding_bytes_max = granted.binding_bytes_max.min(BINDING_BYTES_MAX);
        limits.buffer_bytes_max = granted.buffer_bytes_max;
        let adapter = Adapter {
            device: webgpu::Device::open(&options, &requirements)?,
            requirements,
        };
        Ok(WebGpu {
            adapter,
            artifact: None,
        })
    }

    /// The same place, for programs of an artifact alone: nothing is compiled here, what an adapter
    /// does for them lies in the artifact.
    pub fn for_artifact(self, artifact: Arc<Artifact>) -> WebGpu {
        WebGpu {
            artifact: Some(artifact),
            ..self
        }
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.adapter.device.adapter().name
    }
}
