//! What every importer returns.

use std::collections::BTreeMap;

use compiler::graph::Func;
use compiler::value::tensor::Tensor;

/// A function made from a model, with the tensors of its weights.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The function; sizes that the model leaves open are symbols.
    pub func: Func,
    /// One tensor for each weight parameter, by its name; of its type, or f32 where that has 16 bits
    /// and the model stores f32.
    pub weights: BTreeMap<String, Tensor>,
}
