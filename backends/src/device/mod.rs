//! Devices: what programs are loaded on, whatever it is.
//!
//! Holds one trait for devices and one for loaded programs, which the processor, GPUs and the
//! interpreter of kernels implement; memory that several programs share; and how a device is
//! opened. It knows no model, and waits where a caller waits.

mod error;
mod kernels;
mod loaded;
mod open;
mod processor;

pub use error::ExecutionError;
pub use kernels::Interpreter;
#[cfg(all(any(feature = "cuda", feature = "webgpu"), not(target_arch = "wasm32")))]
pub(crate) use kernels::{Given, loaded};
pub use loaded::{Device, Loaded, Named, Request, Resident};
pub use open::{Opened, Wanted};
pub use processor::Processor;
