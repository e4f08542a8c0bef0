//! The room `runtime`.

pub mod sampler_step;
