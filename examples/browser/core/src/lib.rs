//! The core of the browser's package: what must compute the same bits as the command line.
//!
//! Takes a sampler's configuration as plain fields, a seed, and the network's answers; gives the
//! timesteps, what the network sees, and latents. It holds no JSON, no sentence and no driver: the
//! page reads files, speaks to people and drives the GPU.
//!
//! Everything passes through one buffer, see [`exports`]: the page asks for room, writes there,
//! and calls a function, which returns 0 or the number of a [`Fault`].

pub mod exports;
mod fault;
mod fields;
mod run;

pub use fault::Fault;
pub use run::Run;
