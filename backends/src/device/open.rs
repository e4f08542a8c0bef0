//! Opening devices: what a user wants of one, and what comes of it.
//!
//! Plain data that a backend takes and returns, so that whoever opens a device needs to know none.

use std::sync::Arc;

use super::kernels::Interpreter;
use super::loaded::Device;
use crate::cpu::Options;
use crate::gpu::dialect::Dialect;

/// What a user wants of a device; each backend reads what concerns it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// How the processor executes programs.
    pub processor: Options,
    /// Which device, by its number or by words of its name; the one that the backend prefers if
    /// not given.
    pub adapter: Option<&'a str>,
    /// Whether kernels may name 16-bit floats where not every device has them.
    pub shader_f16: bool,
    /// Whether the device's own clock will be asked.
    pub profile: bool,
}

impl Wanted<'_> {
    /// The device that a backend prefers, as it is.
    pub const ANY: Wanted<'static> = Wanted {
        processor: Options {
            threads: None,
            exact: false,
        },
        adapter: None,
        shader_f16: false,
        profile: false,
    };
}

/// An open device.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The device.
    pub device: Arc<dyn Device>,
    /// What it is called in sentences: `2 threads`, `the adapter llvmpipe`.
    pub name: String,
}

impl Opened {
    /// The interpreter of kernels in the place of a device that understands `dialect`.
    pub fn interpreter(dialect: &'static Dialect) -> Opened {
        Opened {
            device: Arc::new(Interpreter(dialect)),
            name: "the interpreter".to_owned(),
        }
    }
}
