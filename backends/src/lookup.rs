//! Targets by their words: the one list of what programs can be compiled for.
//!
//! Takes the word of an option or an artifact, returns what others need of that target. Whoever has
//! a [`Backend`] reads its data; nobody else compares words.

use compiler::target::Target;

use crate::device::{Opened, Processor, Wanted};
use crate::found::Found;
use crate::gpu::dialect::Dialect;
use crate::gpu::error::DeviceError;
use crate::{cpu, webgpu};

/// What runs the programs of one target.
#[derive(Debug)]
pub struct Backend {
    /// What the compiler knows of it before a machine is known; its name is the word.
    pub target: Target,
    /// What it is, in a few words for a list of options.
    pub about: &'static str,
    /// The language in which programs are compiled ahead; without one, whoever loads a program
    /// compiles it for the machine at hand.
    pub dialect: Option<&'static Dialect>,
    /// The devices of this machine that run its programs, one at least: where there is none, why.
    pub devices: fn() -> Vec<Found>,
    /// Opens one of them.
    pub open: fn(&Wanted<'_>) -> Result<Opened, DeviceError>,
}

/// All targets, the host's first.
pub static BACKENDS: [Backend; 2] = [
    Backend {
        target: Target::CPU,
        about: "This machine's processor",
        dialect: None,
        devices: || vec![cpu::found()],
        open: |wanted| Ok(Processor(wanted.processor).opened()),
    },
    Backend {
        target: webgpu::target::TARGET,
        about: "Any WebGPU adapter: graphics processors, and software that takes their place",
        dialect: Some(&webgpu::WGSL),
        devices: webgpu::found,
        open: webgpu::open,
    },
];

/// The target that every machine runs.
pub fn host() -> &'static Backend {
    &BACKENDS[0]
}

/// The target of that word.
pub fn lookup(word: &str) -> Option<&'static Backend> {
    BACKENDS.iter().find(|backend| backend.name() == word)
}

impl Backend {
    /// The word in options, artifacts and tables.
    pub fn name(&self) -> &'static str {
        self.target.name
    }
}

impl PartialEq for Backend {
    fn eq(&self, other: &Backend) -> bool {
        self.name() == other.name()
    }
}
