//! Weight programs: how parameters are made of stored tensors, as plain data.
//!
//! `graphs` writes one for each parameter that is not stored as it is used (a weight with LoRA
//! layers); `runtime` runs it when weights load, and again when a strength changes. A change of a
//! strength changes the value of an input, never the function, so that nothing is compiled anew.

use std::collections::BTreeMap;

use crate::graph::Func;
use crate::value::tensor::Tensor;

/// How one parameter is made of stored tensors.
#[derive(Debug, Clone)]
pub struct WeightProgram {
    /// Its inputs are those that `stored` and `scales` name; its one result is the parameter, of
    /// the type and shape of `like`.
    pub func: Func,
    /// The input that has the type and shape of the parameter.
    pub like: &'static str,
    /// The stored tensors, by input; they may be read from files when the program runs.
    pub stored: BTreeMap<String, Tensor>,
    /// The inputs that follow strengths: scalars of f32.
    pub scales: Vec<Scale>,
}

/// An input that follows a strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The input.
    pub input: String,
    /// Which strength, by its place in the list of all.
    pub strength: usize,
    /// What the strength is multiplied by.
    pub factor: f64,
}
