//! WebGPU: the kernels of [`crate::gpu`] as WGSL, on any adapter.
//!
//! Takes kernels and prints them, checks their text, and drives adapters. What a program becomes
//! is decided in [`crate::gpu`].

#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub mod device;
pub(crate) mod emit;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
