//! CUDA: the kernels of [`crate::gpu`] as PTX, for NVIDIA's graphics processors.
//!
//! Takes kernels and prints them, and checks texts that were stored. What a program becomes is
//! decided in [`crate::gpu`]; the driver assembles the text, and no toolkit is needed.

mod dialect;
mod emit;
mod found;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;

pub use dialect::PTX;
pub(crate) use found::{found, open};
