//! WGSL as a dialect of [`crate::gpu`].

use super::{emit, target, text};
use crate::gpu::dialect::Dialect;

/// WGSL, printed for any adapter and read by naga.
pub static WGSL: Dialect = Dialect {
    name: "WGSL",
    extension: "wgsl",
    target: &target::TARGET,
    emit: emit::emit,
    read: |text, shader_f16| text::read(text, shader_f16).map_err(|error| error.to_string()),
};
