//! Why a run stops, and who is told of its steps.
//!
//! Plain data with its messages.

use compiler::value::tensor::Tensor;
use thiserror::Error;

use crate::sampler_step::SamplerStepError;
use crate::session::SessionError;

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
    /// The network gave something that is not a number; from latents that stay on a device this is
    /// told when they are read, of the call before.
    #[error("the network's output of call {call} holds NaN or infinity")]
    NotFinite {
        /// The call, from 0.
        call: usize,
    },
}

/// Is told of each step in order; may read the latents `[batch, channels, height, width]`, f32, in
/// the sampler's own scale, which costs a wait on some devices. Its error ends the run.
pub type OnStep<'a> =
    dyn FnMut(usize, &dyn Fn() -> Result<Tensor, SamplingError>) -> Result<(), SamplingError> + 'a;
