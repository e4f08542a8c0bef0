//! A run of a pipeline: what prompts and pictures become for the denoising network.
//!
//! Takes the pipeline as data and sessions of its components. It knows no component by its name.

mod encode;
pub(crate) mod error;
mod lora_tags;
pub(crate) mod ports;
mod posterior;

pub use encode::{PictureSizes, Text, condition, encode};
pub use error::{OnStep, SamplingError};
pub use lora_tags::{LoraTag, LoraTagError, split_lora_tags};
pub use posterior::{Posterior, encode_picture};
