//! Targets by their words: the one list of what programs can be compiled for.
//!
//! Takes the word of an option or an artifact, returns what others need of that target. Whoever has
//! a [`Backend`] reads its data; nobody else compares words.

use compiler::target::Target;

use crate::device::{Opened, Processor, Wanted};
use crate::found::Found;
use crate::gpu::dialect::Dialect;
use crate::gpu::error::DeviceError;
use crate::{cpu, cuda, webgpu};

/// What runs the programs of one target.
#[derive(Debug)]
pub struct Backend {
    /// What the compiler knows of it before a machine is known; its name is the word.
    pub target: Target,
    /// Other words for it, which name the machine more exactly.
    pub aliases: &'static [&'static str],
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
pub static BACKENDS: [Backend; 3] = [
    Backend {
        target: Target::CPU,
        aliases: &[],
        about: "This machine's processor",
        dialect: None,
        devices: || vec![cpu::found()],
        open: |wanted| Ok(Processor(wanted.processor).opened()),
    },
    Backend {
        target: webgpu::target::TARGET,
        aliases: &[],
        about: "Any WebGPU adapter: graphics processors, and software that takes their place",
        dialect: Some(&webgpu::WGSL),
        devices: webgpu::found,
        open: webgpu::open,
    },
    Backend {
        target: cuda::target::TARGET,
        aliases: &["cuda:sm_80"],
        about: "NVIDIA's graphics processors from compute capability 8.0",
        dialect: Some(&cuda::PTX),
        devices: cuda::found,
        open: cuda::open,
    },
];

/// The target that every machine runs.
pub fn host() -> &'static Backend {
    &BACKENDS[0]
}

/// The target of that word, or of another word for it.
pub fn lookup(word: &str) -> Option<&'static Backend> {
    let is_word = |backend: &&Backend| backend.name() == word || backend.aliases.contains(&word);
    BACKENDS.iter().find(is_word)
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
