//! The compiler: intermediate representations, operators and passes.
//!
//! Takes a graph of typed tensor operators and returns a program that a backend executes.
//! It is pure: it opens no file, starts no thread, talks to no driver and reads no clock;
//! it knows no ONNX name, no sampler and no model.
//!
//! From the ground up: `value`, `graph` and `ops`, `passes`, `target`, `region`, `tile`, `kernel`,
//! `plan`, `program`. A folder uses those before it; only a function and its operators know each
//! other.

pub mod graph;
pub mod kernel;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod program;
pub mod region;
pub mod target;
pub mod tile;
pub mod value;

pub use value::dim::{Bindings, Dim};
pub use value::dtype::DType;
