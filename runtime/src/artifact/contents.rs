//! What an artifact holds, as plain data.
//!
//! Takes nothing; others write, read and check it.

use std::collections::{BTreeMap, BTreeSet};

use backends::gpu::commands::Commands;
use compiler::DType;
use compiler::program::Counts;
use compiler::program::pipeline::Pipeline;
use compiler::value::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::tokenizer::TokenizerFiles;

/// Everything that an artifact holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactContents {
    /// What it is and what it needs.
    pub about: About,
    /// Programs for fixed shapes, in order.
    pub programs: Vec<ArtifactProgram>,
    /// What adapters do, by the hash of the regions that they compute ([`crate::ahead`]); kernels
    /// of one name have one text.
    pub commands: BTreeMap<String, Commands>,
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
    /// What its inputs change with, by the name of a stage; `None` for a whole program and for a
    /// body.
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
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// Its extents, outermost first.
    pub shape: Vec<u64>,
}

/// An element type as its name.
mod dtype_name {
    use compiler::DType;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        dtype: &DType,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DType, D::Error> {
        let name = String::deserialize(deserializer)?;
        DType::from_name(&name)
            .ok_or_else(|| D::Error::custom(format_args!("found element type {name:?}")))
    }
}
