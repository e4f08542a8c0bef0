//! The compiler: intermediate representations, operators and passes.
//!
//! Takes a graph of typed tensor operators and gives a program that a backend executes.
//! It is pure: it opens no file, starts no thread, talks to no driver and reads no clock;
//! it knows no ONNX name, no sampler and no model.

pub mod autodiff;
pub mod bind;
pub mod dim;
pub mod dtype;
pub mod eval;
pub mod graph;
pub mod kernel;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod program;
pub mod region;
pub mod target;
pub mod tensor;
pub mod text;
pub mod tile;
pub mod verify;

pub use dim::{Bindings, Dim};
pub use dtype::DType;
