//! Vector routines of the CPU: matrix products of packed panels, packing, Winograd transforms and
//! the online softmax, each from one source for every vector instruction set.
//!
//! Takes slices and a [`Machine`], which says which instructions the caller may use and how large
//! its register tile is. Nothing here allocates or starts threads.

pub(crate) mod machine;
pub(crate) mod mma;
pub(crate) mod online;
pub(crate) mod pack;
mod transpose;
pub(crate) mod weigh;
mod wide;
pub(crate) mod widen;
pub(crate) mod winograd;

#[cfg(test)]
mod testing;
