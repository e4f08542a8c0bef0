//! LoRA: files of low-rank changes to the weights of a model.
//!
//! Takes files in the spellings of kohya's scripts, diffusers and PEFT, and the modules of a model;
//! returns the layers that fit, writes layers in the same spellings, and writes the weight program
//! `W′ = W + Σ strength · alpha/rank · up · down` of each weight that layers change. It multiplies
//! no matrices: programs do when weights load.

mod base;
mod error;
mod keys;
mod modules;
mod program;
mod read;
mod settings;
mod targets;
#[cfg(test)]
mod tests;
mod write;

use compiler::value::tensor::Tensor;

pub use error::{LoraError, listed};
pub use modules::{Modules, Network};
pub use program::weight_programs;
pub use read::{File, Fitted, read};
pub use targets::{TARGETS, is_target};
pub use write::{Format, write};

/// What a file adds to one weight.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The component that has the weight.
    pub component: String,
    /// The weight's module, by its diffusers name.
    pub module: String,
    /// The factor that is applied first, floats `[rank, in, …]`.
    pub down: Tensor,
    /// The factor that is applied second, floats `[out, rank, …]`.
    pub up: Tensor,
    /// What their product is multiplied by at strength 1: alpha over the rank.
    pub factor: f64,
}
