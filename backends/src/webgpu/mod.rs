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

use crate::gpu::dialect::Dialect;

/// WGSL, printed for any adapter and read by naga.
pub static WGSL: Dialect = Dialect {
    target: &target::TARGET,
    emit: emit::emit,
    read: |text, shader_f16| text::read(text, shader_f16).map_err(|error| error.to_string()),
};

/// What tables show of each adapter, or why there is none.
#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub(crate) use device::found;

/// Why a build without drivers has no device.
#[cfg(not(all(feature = "webgpu", not(target_arch = "wasm32"))))]
pub(crate) fn found() -> Vec<crate::found::Found> {
    let reason = "this splamc was built without the feature webgpu";
    vec![crate::found::Found::absent(reason, None)]
}
