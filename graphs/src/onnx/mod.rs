//! Import of ONNX models.
//!
//! Takes a model file with its external data from a [`Source`](crate::source::Source), gives a
//! function of the graph IR with its weights, which share the bytes of the files. Shape arithmetic
//! is carried out here: what is left are tensors. Opsets 1 to 28 of the default domain are read as
//! far as an operator's meaning in them is known (see [`ops::OPERATORS`]). It never guesses: an
//! operator, attribute or size that it does not understand is an error which names the node.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::TensorType;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;

use crate::Imported;

mod bounds;
mod context;
mod damage;
mod error;
mod fold;
mod frame;
mod node;
mod ops;
mod order;
mod precision;
mod proto;
mod signature;
mod tensor;
mod walk;

#[cfg(test)]
mod readers;
#[cfg(test)]
mod tests;

pub use bounds::{OPSETS, RANK_MAX};
pub use error::{ImportError, Problem, TensorProblem, Unsupported};
pub use walk::{import, signature};

/// What the caller knows of the inputs.
#[derive(Debug, Clone)]
pub struct Request {
    /// Sizes for the extents that the model leaves open, by the model's name or the symbol; sizes
    /// that do not occur are ignored.
    pub bindings: Bindings,
    /// Inputs that are at hand. Their shapes bind extents; what small ones hold is used only where
    /// an operator's meaning depends on it (a shape, axes, repeats as run-time inputs).
    pub inputs: BTreeMap<String, Tensor>,
    /// The type in which a graph of f32 computes; its own if not given. Inputs and results keep
    /// their types.
    pub dtype: Option<DType>,
}

/// An imported model.
#[derive(Debug, Clone)]
pub struct OnnxModel {
    /// The function and its weights.
    pub imported: Imported,
    /// Inputs whose contents the function was compiled for: it is right for no others. They stay
    /// inputs of the function, without uses.
    pub specialised: BTreeMap<String, Tensor>,
}

/// What a model takes and returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The inputs that it must be given, with their declared types; extents that it leaves open are
    /// symbols. Initializers that are inputs too have defaults and are left out.
    pub inputs: Vec<(String, TensorType)>,
    /// The names of its results.
    pub results: Vec<String>,
}
