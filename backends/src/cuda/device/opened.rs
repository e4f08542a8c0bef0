//! A graphics processor as a device of programs.
//!
//! Takes what a user wants, opens a processor that runs kernels, and loads programs on it.

use std::sync::Arc;

use super::loaded;
use super::processors::{Processor, processors};
use crate::cuda::dialect::PTX;
use crate::device::{Device, ExecutionError, Given, Loaded, Opened, Request, Wanted, loaded};
use crate::gpu::compile::compile;
use crate::gpu::error::DeviceError;
use crate::gpu::validate::Valid;

/// Opens a processor: the first that runs kernels, or the one that is named.
///
/// # Errors
/// When there is none, none of that name, or it does not run kernels.
pub(crate) fn open(wanted: &Wanted<'_>) -> Result<Opened, DeviceError> {
    let processors = processors()?;
    let names: Vec<String> = processors
        .iter()
        .map(|own| format!("{} {}", own.ordinal, own.name))
        .collect();
    let is_meant = |own: &Processor| match wanted.adapter {
        Some(words) => own.is_named(words),
        None => true,
    };
    let mut meant = processors.into_iter().filter(is_meant).peekable();
    let first = meant.peek().map(|own| (own.name.clone(), own.unfit()));
    match (meant.find(|own| own.unfit().is_none()), first) {
        (Some(processor), _) => Ok(Opened {
            name: format!("the graphics processor {}", processor.name),
            device: Arc::new(processor),
        }),
        (None, Some((adapter, reason))) => Err(DeviceError::Open {
            adapter,
            reason: reason.unwrap_or_default(),
        }),
        (None, None) => Err(DeviceError::NoSuchAdapter {
            wanted: wanted.adapter.unwrap_or_default().to_owned(),
            found: names,
        }),
    }
}

impl Device for Processor {
    fn prepare(&self, request: Request<'_>) -> Result<Box<dyn Loaded>, ExecutionError> {
        let (commands, regions) = match request.ahead {
            Some(ahead) => ahead,
            None => {
                let compiled = compile(request.program, &PTX.requirements(false), &PTX)?;
                (compiled.commands, compiled.regions)
            }
        };
        let load =
            |commands: &Valid, given: Given<'_>| loaded::Loaded::new(self, commands.clone(), given);
        loaded(commands, regions, request.weights, &PTX, load)
    }
}
