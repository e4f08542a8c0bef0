//! What a training is, as plain data: `graphs` writes it, `runtime` obeys it.
//!
//! Holds what is drawn for each sample, and where each parameter is stored in the flat tensors of a
//! training step, and what a step calls its inputs, states and results. It knows no method, no optimiser and no file.

mod draw;
mod initial;
mod layout;
pub mod names;
mod probe;

pub use draw::{Distribution, Draw, Drawn};
pub use initial::Initial;
pub use layout::{Layout, LayoutError, Place};
pub use probe::{probe_words, probed};
