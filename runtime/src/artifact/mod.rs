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
//! | `kernels/…` | device code as readable text, each kernel once; none for a CPU |
//! | `weights-….safetensors` | shards of at most 64 MiB of one component; a larger tensor has its own |
//! | `tokenizer/…` | the tokenizer's files as the model had them |
//!
//! Every name but the manifest's carries the first 16 hexadecimal digits of its content's hash, so
//! a file is never changed in place and a host may cache it for ever. The manifest is committed
//! last: before that moment there is no artifact, after it there is a whole one.

mod commands;
mod manifest;
mod parts;
mod plan;
mod read;
mod shards;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use backends::gpu::belong::Foreign;
use backends::gpu::commands::Commands;
use backends::gpu::validate::Invalid;
use bytes::Bytes;
use compiler::DType;
use compiler::program::pipeline::{Pipeline, PipelineError};
use compiler::program::{CompileError, Counts, ExecutableError};
use compiler::value::tensor::Tensor;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::manifest::{Manifest, ProgramSummary};
pub use self::read::Artifact;
pub use self::stored::StoredFile;
pub(crate) use self::stored::key;
pub use self::write::{Written, write};
use crate::tensor_file::TensorFileError;
use crate::tokenizer::TokenizerFiles;

/// Name of the one file without a hash in its name.
pub const MANIFEST: &str = "manifest.json";

/// Where an artifact is written. Names are relative, with at most one `/`, of letters, digits,
/// `.`, `_` and `-`. Several files are written at the same time.
pub trait Storage: Sync {
    /// Writes a whole file: these parts, one after the other.
    ///
    /// # Errors
    /// When the file cannot be written in full.
    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()>;

    /// Writes a file beside and renames it into place, after everything written before is safe:
    /// at any moment `name` is absent, old and whole, or new and whole.
    ///
    /// # Errors
    /// When that cannot be done; `name` is then as it was.
    fn commit(&self, name: &str, content: &Bytes) -> io::Result<()>;
}

/// Where an artifact is read from: a name (as in [`Storage`]) to a file's bytes, often a map.
pub trait Files: Send + Sync {
    /// The file's bytes.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    fn read(&self, name: &str) -> io::Result<Bytes>;
}

/// Everything that an artifact holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactContents {
    /// What it is and what it needs.
    pub about: About,
    /// Programs for fixed shapes, in order.
    pub programs: Vec<ArtifactProgram>,
    /// What adapters do, by the hash of the regions that they compute ([`crate::ahead`]); kernels of
    /// one name have one text.
    pub commands: BTreeMap<String, Commands>,
    /// Other device code by file name, such as `gemm_1.ptx`.
    pub kernels: BTreeMap<String, Bytes>,
    /// Tokenizers by their directory in the pipeline, such as `tokenizer_2`.
    pub tokenizers: BTreeMap<String, TokenizerFiles>,
    /// Weights by `<component>/<tensor name>`; `None` where they are left out.
    pub weights: Option<BTreeMap<String, Tensor>>,
}

/// What an artifact is and what it needs, as the manifest says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// A pipeline, or one graph.
    pub kind: Kind,
    /// Name and version of the program that wrote it, such as `splamc 0.1.0`.
    pub producer: String,
    /// What it was compiled for, as on the command line: `cpu`, `wgsl`, `cuda:sm_80`.
    pub target: String,
    /// Element type of weights and activations, as on the command line: `f32`, `f16`, `bf16`.
    pub dtype: String,
    /// Whether sums stay sums wherever it runs; artifacts that do not say so let the machine
    /// choose.
    #[serde(default)]
    pub exact: bool,
    /// Size of the pictures; `None` for a graph that makes none.
    pub picture: Option<PictureShape>,
    /// The tiles that the decoder was compiled for; artifacts that do not say so decode a picture
    /// at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae_tiling: Option<VaeTiling>,
    /// What a device must offer.
    pub requirements: Requirements,
    /// What the model is: its networks, how prompts condition them, its sampler.
    pub pipeline: Pipeline,
}

/// Whether an artifact is a whole pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From a prompt to pictures.
    Pipeline,
    /// One graph, from named tensors to named tensors.
    Graph,
}

/// The fixed size of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureShape {
    /// Pictures at once.
    pub batch: u64,
    /// Rows of pixels.
    pub height: u64,
    /// Columns of pixels.
    pub width: u64,
}

/// Tiles of a picture, in latents; see [`crate::tiling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaeTiling {
    /// Rows of a tile: the decoder takes so many.
    pub height: u64,
    /// Columns of a tile.
    pub width: u64,
    /// Rows that neighbours share, unless a run chooses otherwise.
    pub overlap_height: u64,
    /// Columns that neighbours share.
    pub overlap_width: u64,
}

/// What a device must offer to run an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Bytes that the largest program needs at once: of its arena, and on an adapter of its weights
    /// too.
    pub peak_bytes: u64,
    /// Limits by name, such as the greatest binding, in the limit's own unit.
    pub limits: BTreeMap<String, u64>,
    /// Features by name.
    pub features: BTreeSet<String>,
}

/// One program and where it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactProgram {
    /// Unique within its component.
    pub name: String,
    /// The part of the pipeline that it computes, such as `unet`.
    pub component: String,
    /// Bytes that it needs at once: of its arena, and on an adapter of its weights too.
    pub peak_bytes: u64,
    /// What it takes, in order.
    pub inputs: Vec<Port>,
    /// What it gives, in order.
    pub outputs: Vec<Port>,
    /// The complete text form of its graph.
    pub text: String,
    /// All of it, as devices are given it.
    pub whole: ArtifactPart,
    /// The parts in which it runs, in order: stages, and the body last. None where it runs whole.
    pub parts: Vec<ArtifactPart>,
}

/// A program, or a part of one, as devices are given it: regions with their constants.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactPart {
    /// What its inputs change with, by the name of a stage; `None` for a whole program and for a body.
    pub stage: Option<String>,
    /// The text of its regions.
    pub regions: String,
    /// Their constants, in the order of their buffers.
    pub constants: Vec<Tensor>,
    /// What its operators come to.
    pub counts: Counts,
    /// Which of its inputs are results of earlier parts: the part's number, and the name that both
    /// have.
    pub taken: Vec<(u32, String)>,
}

/// A named input or output of fixed shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    #[serde(with = "manifest::dtype_name")]
    pub dtype: DType,
    /// Its extents, outermost first.
    pub shape: Vec<u64>,
}

/// Why an artifact cannot be written or read.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// A file could not be read.
    #[error("cannot read {file} of the artifact: {source}")]
    Read {
        /// The file's name.
        file: String,
        /// What the files' owner says.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {file} of the artifact: {source}")]
    Write {
        /// The file's name.
        file: String,
        /// What the storage says.
        source: io::Error,
    },
    /// The manifest is not JSON of the manifest's form.
    #[error("manifest.json is not an artifact's manifest: {source}")]
    Manifest {
        /// What the JSON reader says, with line and column.
        source: serde_json::Error,
    },
    /// The manifest is of another format or version.
    #[error(
        "manifest.json has format {found}; expected {wanted}\n\
         hint: compile the model again: splamc compile MODEL{options}"
    )]
    Format {
        /// What the manifest says.
        found: String,
        /// What this reader reads.
        wanted: String,
        /// The options that would make the artifact anew, as far as the manifest says them.
        options: String,
    },
    /// The manifest's own hash is not its content's.
    #[error("manifest.json was changed after it was written: its seal does not fit its content")]
    Seal,
    /// A name cannot be a file's name everywhere.
    #[error("found the file name {name:?}, wanted letters, digits, dots, dashes and underscores")]
    FileName {
        /// The name refused.
        name: String,
    },
    /// The same name occurs twice.
    #[error("found two of {what} {name:?} in one artifact, wanted one")]
    Twice {
        /// `program` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A file has another length than the manifest says.
    #[error("found {found} bytes in {file} of the artifact, wanted {wanted}")]
    Length {
        /// The file's name.
        file: String,
        /// Bytes of the file.
        found: u64,
        /// Bytes that the manifest says.
        wanted: u64,
    },
    /// A file's content is not what the manifest says.
    #[error("found SHA-256 {found} of {file} of the artifact, wanted {wanted}")]
    Hash {
        /// The file's name.
        file: String,
        /// The content's hash.
        found: String,
        /// The manifest's hash.
        wanted: String,
    },
    /// The plan is not protobuf of the plan's form.
    #[error("{file} of the artifact is not a plan: {source}")]
    Plan {
        /// The file's name.
        file: String,
        /// What the protobuf reader says.
        source: prost::DecodeError,
    },
    /// The pipeline cannot be one.
    #[error("manifest.json: {0}")]
    Pipeline(#[from] PipelineError),
    /// Two files of the artifact contradict each other.
    #[error("{file} of the artifact and manifest.json disagree on {what}")]
    Disagree {
        /// The file's name.
        file: String,
        /// On what.
        what: &'static str,
    },
    /// A shard is not the safetensors file that it should be, or the weights cannot become one.
    #[error("{file} of the artifact: {source}")]
    Shard {
        /// The file's name.
        file: String,
        /// What is wrong.
        source: TensorFileError,
    },
    /// What the plan stores of a program is not the graph of its regions.
    #[error("{program:?} of the artifact: {source}")]
    Graph {
        /// The component and the program.
        program: String,
        /// What is wrong.
        source: Box<CompileError>,
    },
    /// What the plan stores of a program is not regions that keep the rules.
    #[error("{program:?} of the artifact: {source}")]
    Regions {
        /// The component and the program.
        program: String,
        /// What is wrong.
        source: Box<ExecutableError>,
    },
    /// The plan holds what is no number, type or text, or what contradicts the rest of a program.
    #[error("{program:?} of the artifact holds damaged {what}")]
    Damaged {
        /// The program, or the part of one.
        program: String,
        /// What is damaged.
        what: &'static str,
    },
    /// Commands break a rule.
    #[error("the commands of {program:?} in the artifact: {source}")]
    Invalid {
        /// The program, or the part of one.
        program: String,
        /// The rule.
        source: Invalid,
    },
    /// Commands are those of another program.
    #[error("the commands of {program:?} in the artifact are not its own: {source}")]
    Foreign {
        /// The program, or the part of one.
        program: String,
        /// The rule.
        source: Foreign,
    },
    /// There are no commands for a program as this version forms it.
    #[error(
        "{producer} compiled no commands for {program:?} that this version can use\n\
         hint: compile the model again"
    )]
    NoCommands {
        /// The program, or the part of one.
        program: String,
        /// Who wrote the artifact.
        producer: String,
    },
    /// The artifact was written without weights.
    #[error("the artifact holds no weights, wanted {name:?}")]
    NoWeights {
        /// The tensor, or the component, asked for.
        name: String,
    },
    /// There is no such thing in the artifact.
    #[error("found no {what} {name:?} in the artifact")]
    Missing {
        /// `tensor`, `kernel`, `tokenizer` or a file's role.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
}
