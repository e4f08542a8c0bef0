//! The machines that programs run on: one folder each.
//!
//! Takes what the compiler gives and executes it on one kind of machine. A backend knows its
//! instructions, its memory and its driver; it knows no model, no sampler and no file.

pub mod clock;
pub mod cpu;
pub mod cuda;
pub mod device;
mod found;
pub mod gpu;
mod lookup;
pub mod webgpu;

pub use found::{Fact, Found};
pub use lookup::{BACKENDS, Backend, host, lookup};

#[cfg(test)]
mod tests;
