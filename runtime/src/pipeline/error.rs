//! Why a run stops, and who is told of its steps.
//!
//! Plain data with its messages.

use compiler::value::tensor::Tensor;
use thiserror::Error;

use crate::sampler_step::SamplerStepError;
use crate::session::SessionError;

/// What a network computes.
pub(crate) const OUTPUT: &str = "the output";

/// The latents after a step.
pub(crate) const LATENTS: &str = "the sampler's output";

/// Why sampling stopped.
#[derive(Debug, Error)]
pub enum SamplingError {
    /// A component failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A component lacks an input or output that sampling needs.
    #[error("the {component} has {found:?}, wanted {wanted:?} among them")]
    Interface {
        /// The component.
        component: String,
        /// The names it has.
        found: Vec<String>,
        /// The name wanted.
        wanted: String,
    },
    /// Tensors that belong together do not fit.
    #[error("{what} has shape {found:?}, wanted {wanted:?}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape wanted.
        wanted: Vec<usize>,
    },
    /// The table, the noise and the latents do not belong together.
    #[error(transparent)]
    Step(#[from] SamplerStepError),
    /// Values overflowed, or weights are not numbers. Of latents that stay on a device it is told
    /// when they are read, with the last step before.
    #[error("{what} {} NaN or infinite values", at_step(*.step))]
    NotFinite {
        /// The values.
        what: &'static str,
        /// The step, from 0, for values that each step computes.
        step: Option<usize>,
    },
}

fn at_step(step: Option<usize>) -> String {
    step.map_or("has".to_owned(), |step| format!("of step {} has", step + 1))
}

/// The tensor, unless it holds NaN or infinity.
pub(crate) fn finite(
    tensor: Tensor,
    what: &'static str,
    step: Option<usize>,
) -> Result<Tensor, SamplingError> {
    match tensor.not_finite() {
        0 => Ok(tensor),
        _ => Err(SamplingError::NotFinite { what, step }),
    }
}

/// Is told of each step in order; may read the latents `[batch, channels, height, width]`, f32, in
/// the sampler's own scale, which costs a wait on some devices. Its error ends the run.
pub type OnStep<'a> =
    dyn FnMut(usize, &dyn Fn() -> Result<Tensor, SamplingError>) -> Result<(), SamplingError> + 'a;
