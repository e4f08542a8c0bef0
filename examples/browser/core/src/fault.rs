//! What can be wrong, as numbers: the page has the sentences.

use graphs::samplers::SamplerError;
use runtime::sampler_step::SamplerStepError;

/// Why a call fails. The numbers are part of the interface: the page's `core.ts` lists them in
/// the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Fault {
    /// The buffer does not hold what the call takes, or calls are not in order.
    Call = 1,
    /// There is no sampler of that name.
    Name = 2,
    /// The configuration is for a class that is not supported.
    Class = 3,
    /// The sampler has no such option, or the option cannot change anything.
    Option = 4,
    /// An option has a value that the sampler does not take.
    Value = 5,
    /// The sampler cannot take this number of steps.
    Steps = 6,
    /// A coefficient is infinite or undefined.
    NotFinite = 7,
    /// The noise schedule is impossible.
    NoiseSchedule = 8,
    /// The latents are too large.
    Size = 9,
    /// The network's answer or the latents hold NaN or infinity.
    NotANumber = 10,
}

impl From<SamplerError> for Fault {
    fn from(error: SamplerError) -> Fault {
        match error {
            SamplerError::Json { .. } => Fault::Call,
            SamplerError::Class { .. } => Fault::Class,
            SamplerError::Name { .. } => Fault::Name,
            SamplerError::Option { .. } | SamplerError::NoEffect { .. } => Fault::Option,
            SamplerError::Value { .. } | SamplerError::Conflict { .. } => Fault::Value,
            SamplerError::Steps { .. } => Fault::Steps,
            SamplerError::Timestep { .. } | SamplerError::NotFinite { .. } => Fault::NotFinite,
            SamplerError::NoiseSchedule(_) => Fault::NoiseSchedule,
        }
    }
}

impl From<SamplerStepError> for Fault {
    fn from(error: SamplerStepError) -> Fault {
        match error {
            SamplerStepError::Images { .. } => Fault::Size,
            SamplerStepError::Length { .. }
            | SamplerStepError::NoNoise { .. }
            | SamplerStepError::Slot { .. } => Fault::Call,
        }
    }
}
