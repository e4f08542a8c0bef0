//! CUDA: the kernels of [`crate::gpu`] as PTX, for NVIDIA's graphics processors.
//!
//! Takes kernels and prints them, checks texts that were stored, and drives processors. What a
//! program becomes is decided in [`crate::gpu`]; the driver assembles the text, and no toolkit is
//! needed.

#[cfg(all(feature = "cuda", not(target_arch = "wasm32")))]
mod device;
mod dialect;
mod emit;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;

pub use dialect::PTX;

/// What tables show of each processor, or why there is none.
#[cfg(all(feature = "cuda", not(target_arch = "wasm32")))]
pub(crate) use device::{found, open};

/// Why a build without drivers has no device.
#[cfg(not(all(feature = "cuda", not(target_arch = "wasm32"))))]
pub(crate) fn found() -> Vec<crate::found::Found> {
    let reason = "this splamc was built without the feature cuda";
    vec![crate::found::Found::absent(reason, None)]
}

/// Opens nothing in a build without drivers.
#[cfg(not(all(feature = "cuda", not(target_arch = "wasm32"))))]
pub(crate) fn open(
    _: &crate::device::Wanted<'_>,
) -> Result<crate::device::Opened, crate::gpu::error::DeviceError> {
    Err(crate::gpu::error::DeviceError::NoDriver {
        what: "this splamc was built without the driver of NVIDIA's graphics processors",
        hint: "build it with the feature cuda",
    })
}
