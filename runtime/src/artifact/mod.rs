//! The `.splam` directory: what a compiled model is on disk, or on a web host.
//!
//! Takes programs, weights, kernels and tokenizers as plain data and writes them through a
//! [`Storage`]; takes [`Files`] and gives the same data back, checked. Never opens a path, never
//! interprets a program, never copies a weight.
//!
//! | file | holds |
//! |---|---|
//! | `manifest.json` | what it is, what it needs, and name, length and SHA-256 of every other file; sealed by its own hash |
//! | `plan-….pb` | the programs in parts: regions as text and constants as data; what adapters do for them, and which shard holds which tensor (protobuf) |
//! | `kernels-….wgsl`, `.ptx` | device code as one readable text, each kernel once below its name; none for a CPU |
//! | `weights-….safetensors` | shards of at most 64 MiB of one component; a larger tensor has its own |
//! | `tokenizer/…` | the tokenizer's files as the model had them |
//!
//! Every name but the manifest's carries the first 16 hexadecimal digits of its content's hash, so
//! a file is never changed in place and a host may cache it for ever. The manifest is committed
//! last: before that moment there is no artifact, after it there is a whole one.

mod commands;
mod contents;
mod error;
mod kernels;
mod manifest;
mod parts;
mod plan;
mod read;
mod shards;
mod storage;
mod stored;
#[cfg(test)]
mod tests;
mod write;

pub use contents::{
    About, ArtifactContents, ArtifactPart, ArtifactProgram, Kind, PictureShape, Port, Requirements,
    VaeTiling,
};
pub use error::ArtifactError;
pub use manifest::{Manifest, ProgramSummary, is_manifest};
pub use read::Artifact;
pub use storage::{Files, MANIFEST, Storage};
pub(crate) use stored::key;
pub use stored::{StoredFile, hash, is_stored_name};
pub use write::{Written, write};
