//! The libraries from outside: operators, networks, samplers and training steps against what
//! PyTorch, diffusers and transformers compute.

#[path = "../support/mod.rs"]
mod support;

mod data;
mod evaluate;
mod executors;
mod imports;
mod lora;
mod model_sizes;
mod models;
mod onnx_models;
mod onnx_operators;
mod operators;
mod resident;
mod samplers;
mod staged;
mod training;
mod vjp;
