//! The plan's file: protobuf messages, declared by hand.
//!
//! Takes and gives plain messages; never interprets a program's text. Tags are for ever: a field
//! that is dropped leaves a hole, a new one gets the next number.

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
}

/// One program.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Program {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) component: String,
    /// The program's complete text form.
    #[prost(string, tag = "3")]
    pub(super) text: String,
    #[prost(uint64, tag = "4")]
    pub(super) peak_bytes: u64,
}

/// What one shard holds, so that a tensor is found without touching the others.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shard {
    /// Names of its tensors, sorted.
    #[prost(string, repeated, tag = "1")]
    pub(super) tensors: Vec<String>,
}
