//! The plan's file: protobuf messages, declared by hand.
//!
//! Takes and gives plain messages; never interprets a program's text. `plan.proto` is the schema.

use bytes::Bytes;

use super::commands::Commands;

/// The whole plan.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Plan {
    /// In the order of the manifest's programs.
    #[prost(message, repeated, tag = "1")]
    pub(super) programs: Vec<Program>,
    /// In the order of the manifest's shards.
    #[prost(message, repeated, tag = "2")]
    pub(super) shards: Vec<Shard>,
    /// What adapters do, sorted by regions; none for a CPU.
    #[prost(message, repeated, tag = "3")]
    pub(super) commands: Vec<Commands>,
    /// The constants of all parts, each once.
    #[prost(message, repeated, tag = "4")]
    pub(super) constants: Vec<Constant>,
}

/// One program.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Program {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) component: String,
    /// The complete text form of its graph.
    #[prost(string, tag = "3")]
    pub(super) text: String,
    #[prost(uint64, tag = "4")]
    pub(super) peak_bytes: u64,
    /// All of it.
    #[prost(message, required, tag = "5")]
    pub(super) whole: Part,
    /// The parts in which it runs, in order: stages, and the body last. None where it runs whole.
    #[prost(message, repeated, tag = "6")]
    pub(super) parts: Vec<Part>,
    /// What makes the parameters of stored tensors, as the text form of a graph. Empty: each
    /// parameter is the tensor `<component>/<parameter>` as it is stored.
    #[prost(string, tag = "7")]
    pub(super) weight_program: String,
}

/// A program, or a part of one, as devices are given it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Part {
    /// Its stage; empty for a whole program and for a body.
    #[prost(string, tag = "1")]
    pub(super) stage: String,
    /// The text of its regions.
    #[prost(string, tag = "2")]
    pub(super) regions: String,
    /// Where in the plan its constants are, in the order of their buffers.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) constants: Vec<u32>,
    #[prost(uint64, tag = "4")]
    pub(super) nodes: u64,
    #[prost(uint64, tag = "5")]
    pub(super) flops: u64,
    /// What earlier parts compute for it.
    #[prost(message, repeated, tag = "6")]
    pub(super) taken: Vec<Taken>,
    /// Where in the plan its commands are, for readers that form no regions; none for a CPU.
    #[prost(uint32, optional, tag = "7")]
    pub(super) commands: Option<u32>,
    /// The buffers of its constants, in the same order, for the same readers.
    #[prost(uint32, repeated, tag = "8")]
    pub(super) constant_buffers: Vec<u32>,
}

/// An input of a part that is a result of an earlier one, of the same name.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Taken {
    #[prost(uint32, tag = "1")]
    pub(super) part: u32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

/// A tensor that no file of weights holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Constant {
    #[prost(string, tag = "1")]
    pub(super) dtype: String,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) shape: Vec<u64>,
    /// The elements as safetensors has them.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) elements: Bytes,
}

/// What one shard holds, so that a tensor is found without touching the others.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shard {
    /// Names of its tensors, sorted.
    #[prost(string, repeated, tag = "1")]
    pub(super) tensors: Vec<String>,
}
