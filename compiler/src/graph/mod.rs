//! The graph IR (level 0): typed tensor operators in static single assignment form.
//!
//! Takes operators and operands through [`Builder`], which infers and checks every type at once,
//! so that an ill-typed graph cannot be built. Values are numbered in an order in which every
//! operand comes before its use. Nothing here knows a model, a file format or a machine.

pub mod autodiff;
pub mod bind;
mod builder;
pub mod eval;
mod func;
pub mod text;
mod types;
pub mod verify;

pub use builder::{Builder, GraphError};
pub use func::{Definition, Func, Module, Node, ValueData};
pub use types::{Param, Role, TensorType, Value};
