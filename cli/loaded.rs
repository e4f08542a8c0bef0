//! A program with its weights, on its way from a model to a session.
//!
//! Plain data.

use std::collections::BTreeMap;

use compiler::passes::Patch;
use compiler::program::Program;
use compiler::value::tensor::Tensor;
use runtime::staged::Staged;

/// A program and the tensors of its weights.
pub(crate) struct Loaded {
    /// The program.
    pub(crate) program: Program,
    /// The parts in which an artifact stores it.
    pub(crate) parts: Option<Staged>,
    /// Its weights, by name.
    pub(crate) weights: BTreeMap<String, Tensor>,
    /// What the passes did; nothing for a program that was compiled before.
    pub(crate) patches: Vec<Patch>,
}
