//! Values, before any graph: element types, extents, tensors, and the arrays of the oracle.
//!
//! Takes bytes and numbers, returns typed values that every level of the compiler shares.
//! Nothing here knows an operator, a function or a machine.

pub mod array;
pub mod dim;
pub mod dtype;
pub mod extents;
pub mod stored;
pub mod tensor;
pub mod words;
