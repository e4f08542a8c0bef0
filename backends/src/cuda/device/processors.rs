//! The graphics processors that the driver offers.
//!
//! Takes nothing, gives plain facts about each with its context, or why there are none. It loads no
//! program.

use super::driver::{self, Context, Refusal, RefusalKind};
use crate::gpu::error::DeviceError;

/// The driver's version of CUDA at least: 12.0, whose functions are called.
const VERSION_MIN: u32 = 12_000;
/// The compute capability that kernels are printed for.
const CAPABILITY_MIN: (i32, i32) = (8, 0);

/// A graphics processor as the driver knows it.
#[derive(Debug, Clone)]
pub(super) struct Processor {
    /// Its number.
    pub(super) ordinal: usize,
    pub(super) name: String,
    /// Major and minor.
    pub(super) capability: (i32, i32),
    /// Bytes that are free, and all.
    pub(super) memory: (u64, u64),
    pub(super) context: Context,
}

/// Names what failed and where.
pub(super) fn failed(
    adapter: &str,
    what: impl Into<String>,
) -> impl FnOnce(Refusal) -> DeviceError {
    let (adapter, what) = (adapter.to_owned(), what.into());
    move |Refusal { reason, kind }| match kind {
        RefusalKind::Memory => DeviceError::Memory { adapter, what },
        RefusalKind::Lost => DeviceError::Lost { adapter, reason },
        RefusalKind::Other => DeviceError::Refused {
            adapter,
            what,
            reason,
        },
    }
}

/// What the driver is called where no processor is known.
const DRIVER: &str = "NVIDIA's driver";

/// All processors that the driver offers, whatever they are.
///
/// # Errors
/// When there is no driver, an old one, or it fails.
pub(super) fn processors() -> Result<Vec<Processor>, DeviceError> {
    if !driver::is_present() {
        return Err(DeviceError::NoDriver {
            what: "found no driver of NVIDIA's graphics processors",
            hint: "install NVIDIA's driver, whose library is libcuda (nvcuda on Windows); \
                   --adapter interpreter runs kernels without one",
        });
    }
    let version = driver::version().map_err(failed(DRIVER, "telling its version"))?;
    if version < VERSION_MIN {
        return Err(DeviceError::OldDriver {
            found: version_text(version),
            wanted: version_text(VERSION_MIN),
        });
    }
    let count = driver::count().map_err(failed(DRIVER, "counting graphics processors"))?;
    (0..count).map(processor).collect()
}

/// A version of CUDA as people write it.
pub(super) fn version_text(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn processor(ordinal: usize) -> Result<Processor, DeviceError> {
    let what = format!("opening graphics processor {ordinal}");
    let read = || {
        let context = Context::open(ordinal)?;
        Ok(Processor {
            ordinal,
            name: context.name()?,
            capability: context.capability()?,
            memory: context.memory()?,
            context,
        })
    };
    read().map_err(failed(DRIVER, what))
}

impl Processor {
    /// Why kernels do not run on it, if they do not.
    pub(super) fn unfit(&self) -> Option<String> {
        let (found, wanted) = (self.capability, CAPABILITY_MIN);
        (found < wanted).then(|| {
            format!(
                "compute capability {}.{}, wanted {}.{} (Ampere) or later",
                found.0, found.1, wanted.0, wanted.1
            )
        })
    }

    /// Whether a user means it.
    pub(super) fn is_named(&self, words: &str) -> bool {
        match words.parse::<usize>() {
            Ok(ordinal) => self.ordinal == ordinal,
            Err(_) => self.name.to_lowercase().contains(&words.to_lowercase()),
        }
    }
}
