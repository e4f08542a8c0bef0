//! WebGPU: programs as WGSL kernels, on any adapter.
//!
//! Two halves meet in [`commands`]: one makes them and needs no device, one obeys them and knows
//! nothing of what they compute.

pub mod belong;
pub mod commands;
pub mod compile;
#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub mod device;
pub mod elements;
mod emit;
pub mod emulator;
pub mod executor;
mod expand;
mod stored;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
pub mod validate;
