//! This machine's processor as a device.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use compiler::tile::Tiled;
use compiler::value::tensor::Tensor;

use super::error::ExecutionError;
use super::loaded::{Device, Loaded, Named, Request, Resident};
use super::open::Opened;
use crate::clock::{Clock, RegionTime};
use crate::cpu::{Executor, Options};

/// The processor, with options for all programs.
#[derive(Debug, Clone, Copy)]
pub struct Processor(pub Options);

impl Processor {
    /// The processor as an open device.
    pub fn opened(self) -> Opened {
        let threads = self.0.threads.or_else(|| {
            let cores = thread::available_parallelism();
            cores.ok().map(NonZeroUsize::get)
        });
        Opened {
            device: Arc::new(self),
            name: format!("{} threads", threads.unwrap_or(1)),
        }
    }
}

impl Device for Processor {
    fn prepare(&self, request: Request<'_>) -> Result<Box<dyn Loaded>, ExecutionError> {
        let Request {
            program,
            weights,
            tuning,
            ..
        } = request;
        Ok(Box::new(Executor::new(program, weights, self.0, tuning)?))
    }
}

impl Loaded for Executor {
    fn run(&self, inputs: &Named) -> Result<Vec<(String, Tensor)>, ExecutionError> {
        Ok(Executor::run(self, inputs)?)
    }

    fn profile(&self, inputs: &Named, clock: Clock<'_>) -> Result<Vec<RegionTime>, ExecutionError> {
        Ok(Executor::profile(self, inputs, clock)?)
    }

    fn state(&self, name: &str) -> Result<Option<Tensor>, ExecutionError> {
        Ok(Executor::state(self, name))
    }

    fn set_state(&self, name: &str, tensor: &Tensor) -> Result<bool, ExecutionError> {
        Ok(Executor::set_state(self, name, tensor)?)
    }

    fn set_weights(&self, changed: &[&str], weights: &Named) -> Result<(), ExecutionError> {
        Ok(Executor::set_weights(self, changed, weights)?)
    }

    fn tiled(&self) -> &Tiled {
        Executor::tiled(self)
    }

    /// Results lie in the host's memory anyway.
    fn resident(&self) -> Option<&dyn Resident> {
        None
    }
}
