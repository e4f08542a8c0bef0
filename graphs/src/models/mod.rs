//! The networks of a pipeline as functions: one folder or file for each.
//!
//! Takes configurations, gives functions of the graph IR whose weight parameters bear the names
//! of diffusers and transformers. Nothing here reads a file or holds a weight.

use compiler::value::dtype::DType;

pub mod clip;
pub mod initial;
pub mod unet;
pub mod vae;

pub(crate) mod embedding;
pub(crate) mod fields;
pub(crate) mod layers;
pub(crate) mod resnet;
pub(crate) mod transformer;

pub use embedding::Sinusoid;
pub use fields::{ConfigError, IgnoredKeys};
pub use resnet::Padding;
pub use transformer::Attention;

/// How a function is to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The floating-point type of weights and inner values; inputs and results are f32 always.
    pub dtype: DType,
    /// The form of the UNet's `timestep`.
    pub timestep: Timestep,
    /// Whether a text encoder also gives `hidden_states.<i>`, the tokens before each layer and
    /// after the last, none of them normalised.
    pub hidden_states: bool,
}

/// The form of the UNet's `timestep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestep {
    /// One number for the whole batch: sampling.
    Scalar,
    /// One number for each sample: training.
    PerSample,
}
