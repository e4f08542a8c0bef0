//! WebGPU: the kernels of [`crate::gpu`] as WGSL, on any adapter.
//!
//! Takes kernels and prints them, checks their text, and drives adapters. What a program becomes
//! is decided in [`crate::gpu`].

#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub mod device;
mod dialect;
pub(crate) mod emit;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;

/// What tables show of each adapter, or why there is none.
#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub(crate) use device::{found, opened::open};
pub use dialect::WGSL;

/// Why a build without drivers has no device.
#[cfg(not(all(feature = "webgpu", not(target_arch = "wasm32"))))]
pub(crate) fn found() -> Vec<crate::found::Found> {
    let reason = "this splamc was built without the feature webgpu";
    vec![crate::found::Found::absent(reason, None)]
}

/// Opens nothing in a build without drivers.
#[cfg(not(all(feature = "webgpu", not(target_arch = "wasm32"))))]
pub(crate) fn open(
    _: &crate::device::Wanted<'_>,
) -> Result<crate::device::Opened, crate::gpu::error::DeviceError> {
    Err(crate::gpu::error::DeviceError::NoDriver {
        what: "this splamc was built without drivers of WebGPU adapters",
        hint: "build it with the feature webgpu",
    })
}
