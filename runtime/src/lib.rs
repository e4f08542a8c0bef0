//! The room `runtime`: when things run.
//!
//! Takes the bytes of models and compiled artifacts, seeds and prompts; gives tokens, noise,
//! artifact bytes and, through a device, pictures. It opens no path, prints nothing, computes no
//! formula of a model and imports none: bytes in, bytes out, so that it also runs in a browser.

pub mod ahead;
pub mod artifact;
pub mod devices;
pub mod features;
pub mod noise;
pub mod pictures;
pub mod pipeline;
pub mod place;
pub mod profile;
mod resident;
mod sampler_program;
pub mod sampler_step;
pub mod sampling;
pub mod session;
pub mod staged;
pub mod tensor_file;
pub mod tiling;
pub mod tokenizer;
pub mod training;
pub mod weight_programs;
