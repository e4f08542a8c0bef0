//! PTX as a dialect of [`crate::gpu`].

use super::{emit, target, text};
use crate::gpu::dialect::Dialect;

/// PTX of compute capability 8.0, which every later processor executes too.
pub static PTX: Dialect = Dialect {
    name: "PTX",
    extension: "ptx",
    target: &target::TARGET,
    emit: emit::emit,
    read: |text, _| text::read(text).map_err(|error| error.to_string()),
};
