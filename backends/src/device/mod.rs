//! Devices: what programs are loaded on, whatever it is.
//!
//! Holds one trait for devices and one for loaded programs, which the processor, WebGPU adapters
//! and the interpreter of kernels implement; and memory that several programs share. It knows no
//! model, and waits where a caller waits.

mod error;
mod kernels;
mod loaded;
mod processor;

pub use error::ExecutionError;
#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub use kernels::Adapter;
pub use kernels::Interpreter;
pub use loaded::{Device, Loaded, Named, Request, Resident};
pub use processor::Processor;
