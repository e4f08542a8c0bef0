//! What tables show of NVIDIA's graphics processors, and why none is opened yet.

use crate::device::{Opened, Wanted};
use crate::found::Found;
use crate::gpu::error::DeviceError;

/// Why programs do not run.
const REASON: &str = "this version compiles for NVIDIA's graphics processors, but does not drive \
                      them yet";
/// What helps.
const HINT: &str = "`splamc compile MODEL --target cuda` writes the kernels, and --adapter \
                    interpreter executes them without a graphics processor";

/// Why there is no device.
pub(crate) fn found() -> Vec<Found> {
    vec![Found::absent(REASON, Some(HINT))]
}

/// Opens nothing.
///
/// # Errors
/// Always.
pub(crate) fn open(_: &Wanted<'_>) -> Result<Opened, DeviceError> {
    Err(DeviceError::NoDriver {
        what: REASON,
        hint: HINT,
    })
}
