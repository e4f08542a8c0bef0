//! An adapter as a device of programs.
//!
//! Takes what a user wants, opens the adapter with the limits that every one grants and larger
//! buffers where this one has them, and loads programs on it.

use std::sync::Arc;

use super::{Choice, Device as Handle, DeviceError, Options, adapter};
use crate::device::{Device, ExecutionError, Given, Loaded, Opened, Request, Wanted, loaded};
use crate::gpu::commands::Requirements;
use crate::gpu::compile::compile;
use crate::gpu::validate::Valid;
use crate::webgpu::dialect::WGSL;

/// Bytes that one binding has at most, whatever an adapter grants: kernels count elements, of which
/// the smallest has two bytes, in 31 bits.
const BINDING_BYTES_MAX: u64 = 2 << 30;

/// An open adapter, and what it was opened for.
#[derive(Debug)]
struct Adapter {
    handle: Handle,
    requirements: Requirements,
}

/// Opens an adapter.
///
/// # Errors
/// When there is no such adapter, it has no 16-bit floats though they are wanted, or its driver
/// fails.
pub(crate) fn open(wanted: &Wanted<'_>) -> Result<Opened, DeviceError> {
    let choice = wanted.adapter.map_or(Choice::Best, |words| {
        let Ok(choice) = words.parse();
        choice
    });
    let options = Options {
        adapter: choice,
        profile: wanted.profile,
    };
    let granted = adapter(&options.adapter)?.grants.limits;
    let mut requirements = WGSL.requirements(wanted.shader_f16);
    let limits = &mut requirements.limits;
    limits.binding_bytes_max = granted.binding_bytes_max.min(BINDING_BYTES_MAX);
    limits.buffer_bytes_max = granted.buffer_bytes_max;
    let handle = Handle::open(&options, &requirements)?;
    let name = format!("the adapter {}", handle.adapter().name);
    let device = Arc::new(Adapter {
        handle,
        requirements,
    });
    Ok(Opened { device, name })
}

impl Device for Adapter {
    fn prepare(&self, request: Request<'_>) -> Result<Box<dyn Loaded>, ExecutionError> {
        let (commands, regions) = match request.ahead {
            Some(ahead) => ahead,
            None => {
                let compiled = compile(request.program, &self.requirements, &WGSL)?;
                (compiled.commands, compiled.regions)
            }
        };
        let load = |commands: &Valid, given: Given<'_>| self.handle.load(commands.clone(), given);
        loaded(commands, regions, request.weights, &WGSL, load)
    }
}
