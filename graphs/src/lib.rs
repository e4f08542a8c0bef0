//! The room `graphs`: WHAT is computed.
//!
//! Takes models from a [`source::Source`], gives functions of the graph IR with their weights.
//! It opens no file, holds no kernel, knows no device and runs no loop over time.

use std::collections::BTreeMap;

use compiler::graph::Func;
use compiler::tensor::Tensor;

pub mod checkpoint;
pub mod guidance;
pub mod noise_schedule;
pub mod samplers;
pub mod source;

/// A function made from a model, with the tensors of its weights.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The function; sizes that the model leaves open are symbols.
    pub func: Func,
    /// One tensor for each weight parameter, by its name and of its type.
    pub weights: BTreeMap<String, Tensor>,
}
