//! Where programs run: an open device, and the artifact whose programs it runs.
//!
//! Takes what a user wants, gives a [`Place`] that sessions are opened at. Opening a device is the
//! only thing that can fail here.

use std::fmt;
use std::sync::Arc;

use backends::Backend;
use backends::device::{Device, Opened, Processor};
use backends::gpu::dialect::Dialect;

pub use backends::cpu::Options;
pub use backends::device::Wanted;
pub use backends::gpu::error::DeviceError;

use crate::artifact::Artifact;

/// Where a session runs.
#[derive(Debug, Clone)]
pub struct Place {
    opened: Opened,
    /// Of a processor.
    options: Option<Options>,
    /// The one whose programs are run, if they were compiled ahead for this device.
    artifact: Option<Arc<Artifact>>,
}

impl Place {
    /// This machine's processor.
    pub fn cpu(options: Options) -> Place {
        Place {
            opened: Processor(options).opened(),
            options: Some(options),
            artifact: None,
        }
    }

    /// The interpreter of kernels: what a device would run, instruction by instruction, with races
    /// and bounds checked. For finding faults; it is some thousand times slower.
    pub fn interpreter(dialect: &'static Dialect) -> Place {
        Place {
            opened: Opened::interpreter(dialect),
            options: None,
            artifact: None,
        }
    }

    /// A device of a target.
    ///
    /// # Errors
    /// When there is none, none is what was wanted, or its driver fails.
    pub fn open(backend: &Backend, wanted: &Wanted<'_>) -> Result<Place, DeviceError> {
        let on_host = backend == backends::host();
        Ok(Place {
            opened: (backend.open)(wanted)?,
            options: on_host.then_some(wanted.processor),
            artifact: None,
        })
    }

    /// The same place, for programs of an artifact alone: nothing is compiled, what a device does
    /// for them is stored in the artifact.
    pub fn for_artifact(self, artifact: Arc<Artifact>) -> Place {
        Place {
            artifact: Some(artifact),
            ..self
        }
    }

    /// How the processor executes programs, if the place is one.
    pub fn processor(&self) -> Option<Options> {
        self.options
    }

    /// The device.
    pub(crate) fn device(&self) -> Arc<dyn Device> {
        self.opened.device.clone()
    }

    /// The artifact whose programs were compiled ahead for this device.
    pub(crate) fn artifact(&self) -> Option<&Artifact> {
        self.artifact.as_deref()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.opened.name)
    }
}
