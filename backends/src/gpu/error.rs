//! Why a device cannot do its work, in sentences.
//!
//! Holds the facts of each failure; what a driver says stands in it word for word.

use thiserror::Error;

use compiler::kernel::Fault;

use super::commands::{Argument, Lack};
use super::elements::ElementsError;

/// Why a device cannot do its work.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DeviceError {
    /// No driver offers an adapter.
    #[error(
        "found no WebGPU adapter\nhint: install a driver of your graphics card; Debian's package \
         mesa-vulkan-drivers also has one that computes on the processor"
    )]
    NoAdapter,
    /// This build drives no such device.
    #[error("{what}\nhint: {hint}")]
    NoDriver {
        /// What it lacks.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The driver is older than what is called.
    #[error("the driver knows CUDA {found}, wanted {wanted}\nhint: install a newer driver")]
    OldDriver {
        /// Its version of CUDA.
        found: String,
        /// The version at least.
        wanted: String,
    },
    /// No adapter is the one that was named.
    #[error("found no adapter {wanted:?} among {}", .found.join(", "))]
    NoSuchAdapter {
        /// The number or the words.
        wanted: String,
        /// The numbers and names that there are.
        found: Vec<String>,
    },
    /// The adapter, or the device as it was opened, grants less than the commands require.
    #[error("{adapter} is not enough for {program}: {lack}")]
    Lacks {
        /// Its name.
        adapter: String,
        /// What needs it, as messages give it.
        program: String,
        /// What is missing.
        lack: Lack,
    },
    /// The driver opens no device.
    #[error("{adapter} opens no device: {reason}")]
    Open {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// The device has no memory left.
    #[error("{adapter} has no memory left for {what}")]
    Memory {
        /// The adapter's name.
        adapter: String,
        /// What was to be done, with bytes where they are known.
        what: String,
    },
    /// The device is gone: its driver was reset, or it was removed.
    #[error("{adapter} was lost: {reason}")]
    Lost {
        /// The adapter's name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// The driver refuses what it should not.
    #[error("{adapter} refuses {what}: {reason}")]
    Refused {
        /// The adapter's name.
        adapter: String,
        /// What was to be done.
        what: String,
        /// What the driver says.
        reason: String,
    },
    /// A kernel does what none may do, which the interpreter finds.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A weight is not given.
    #[error("found no {what}")]
    Missing {
        /// The weight or constant.
        what: String,
    },
    /// A tensor cannot lie where it should.
    #[error("{what}: {error}")]
    Elements {
        /// The input, result, weight or constant.
        what: String,
        /// Why.
        error: ElementsError,
    },
    /// A window lies in no buffer of the program.
    #[error("{window} lie in no buffer of the program")]
    Window {
        /// The window.
        window: Argument,
    },
    /// A result cannot become an input as it lies.
    #[error("the result {output:?} does not lie as the input {input:?} does, or not on its device")]
    Copy {
        /// The result.
        output: String,
        /// The input.
        input: String,
    },
}
