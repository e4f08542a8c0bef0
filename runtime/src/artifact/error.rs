//! Why an artifact cannot be written or read.

use std::io;

use backends::gpu::belong::Foreign;
use backends::gpu::validate::Invalid;
use compiler::program::pipeline::PipelineError;
use compiler::program::{CompileError, ExecutableError};
use compiler::value::stored::ReadError;
use thiserror::Error;

use crate::tensor_file::TensorFileError;

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
    /// A weight that is to be written could not be read.
    #[error(transparent)]
    Weight(#[from] ReadError),
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
    /// The plan holds an invalid number, type or text, or one that contradicts the rest of a program.
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
