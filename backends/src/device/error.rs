//! Why a device does not run a program.
//!
//! Nests what each kind of device says.

use compiler::value::stored::ReadError;
use thiserror::Error;

use crate::cpu;
use crate::gpu::compile::CompileError;
use crate::gpu::error::DeviceError;
use crate::gpu::executor::ExecuteError;

/// Why a program cannot be loaded or run.
#[derive(Debug, Error)]
pub enum ExecutionError {
    /// The processor refuses the program or its weights, or data lie outside of an operator's
    /// domain.
    #[error(transparent)]
    Cpu(#[from] cpu::ExecuteError),
    /// The program cannot be compiled for the device.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A weight cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The device refuses the program or its weights, or fails while it runs.
    #[error(transparent)]
    Gpu(#[from] ExecuteError),
}

impl From<DeviceError> for ExecutionError {
    fn from(error: DeviceError) -> ExecutionError {
        ExecutionError::Gpu(ExecuteError::Machine(error))
    }
}

impl ExecutionError {
    /// Whether the program needs more than the limits or the memory of the device allow: a smaller
    /// one could do.
    pub fn is_too_large(&self) -> bool {
        match self {
            ExecutionError::Compile(error) => matches!(error, CompileError::Plan(_)),
            ExecutionError::Gpu(error) => {
                matches!(error, ExecuteError::Machine(DeviceError::Memory { .. }))
            }
            ExecutionError::Cpu(_) | ExecutionError::Read(_) => false,
        }
    }
}
