//! The files that `splamc encode` writes: what they are called and what they say of one another.
//!
//! Plain data. `encoded.json` describes the whole; each shard is a safetensors file with a JSON
//! file that lists its samples, written last, so that a shard is there once its list is.

use std::collections::BTreeMap;

use compiler::program::pipeline::{Extent, InputRole, Latents, Pipeline, Task};
use serde::{Deserialize, Serialize};

use crate::pipeline::PictureSizes;

/// The file that describes an encoded data set.
pub const INDEX: &str = "encoded.json";

/// The file of what stands for no caption: `[1, …]` by the names of the denoiser's inputs.
pub const UNCONDITIONAL: &str = "unconditional.safetensors";

/// What the format is called, with its version.
pub(super) const FORMAT: &str = "splamc encoded data 1";

/// What `encoded.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodedIndex {
    /// The format and its version.
    pub format: String,
    /// The model that encoded it, as it was named.
    pub model: String,
    /// Facts of its latents.
    pub latents: LatentFacts,
    /// The shape of one row of each condition, by the names of the denoiser's inputs.
    pub conditions: BTreeMap<String, Vec<usize>>,
    /// Samples of the data set, those that were skipped too.
    pub samples: usize,
    /// A hash of their names.
    pub names: String,
    /// Rows and columns of the pictures' sizes, in pixels.
    pub sizes: Vec<[usize; 2]>,
    /// Where pictures were cropped: `center` or `random`.
    pub crop: String,
    /// The seed of random crops.
    pub seed: u64,
    /// Samples of each shard; the last one may have fewer.
    pub shard_samples: usize,
}

/// What training needs to agree on with whoever encoded latents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatentFacts {
    /// Channels.
    pub channels: usize,
    /// Pixels per latent along each axis.
    pub pixels: usize,
    /// What latents are multiplied with; stored ones are not.
    pub scaling_factor: f64,
    /// What is subtracted before.
    pub shift_factor: f64,
}

/// What the JSON file of a shard holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardList {
    /// The samples that are in it.
    pub(super) samples: Vec<Listed>,
    /// Those that are not.
    pub(super) skipped: Vec<ListedSkipped>,
}

/// A sample of a shard. Its tensors are `N.mean`, `N.log_variance` and, for each condition, `N.`
/// and its name, a row for each caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Its number in the data set.
    pub(super) number: u32,
    /// Where it comes from.
    pub(super) name: String,
    /// Its captions.
    pub(super) captions: Vec<String>,
    /// Rows and columns of the original picture.
    pub(super) original: [usize; 2],
    /// What was cropped off the resized one, at the top and at the left.
    pub(super) crop: [usize; 2],
    /// Rows and columns of what was encoded.
    pub(super) target: [usize; 2],
}

/// A sample that could not be encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ListedSkipped {
    /// Its number in the data set.
    pub(super) number: u32,
    /// Where it comes from.
    pub(super) name: String,
    /// Why.
    pub(super) reason: String,
}

impl EncodedIndex {
    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.samples.div_ceil(self.shard_samples.max(1))
    }
}

impl LatentFacts {
    /// Those of a pipeline.
    pub(super) fn of(latents: &Latents) -> LatentFacts {
        LatentFacts {
            channels: latents.channels,
            pixels: latents.pixels,
            scaling_factor: latents.scaling_factor,
            shift_factor: latents.shift_factor,
        }
    }
}

impl Listed {
    pub(super) fn sizes(&self) -> PictureSizes {
        PictureSizes {
            original: self.original,
            crop: self.crop,
            target: self.target,
        }
    }
}

/// The names of the files of a shard: its tensors, its list.
pub fn shard_files(number: usize) -> [String; 2] {
    ["safetensors", "json"].map(|ending| format!("{number:05}.{ending}"))
}

/// The name of a tensor of a sample.
pub(super) fn tensor_name(number: u32, part: &str) -> String {
    format!("{number}.{part}")
}

/// The shape of one row of each condition that data bring, by the names of the denoiser's inputs.
pub(super) fn conditions(pipeline: &Pipeline) -> BTreeMap<String, Vec<usize>> {
    let denoiser = pipeline.of_task(Task::Denoise).into_iter();
    let inputs = denoiser.flat_map(|own| &own.inputs);
    let data = inputs.filter(|input| match input.role {
        Some(InputRole::HiddenStates | InputRole::PooledText | InputRole::SizeIds) => true,
        Some(
            InputRole::TokenIds
            | InputRole::Latents
            | InputRole::Picture
            | InputRole::Timestep
            | InputRole::GuidanceScale,
        )
        | None => false,
    });
    let extent = |extent: &Extent| match extent {
        Extent::Fixed(extent) => Some(*extent),
        Extent::Batch
        | Extent::LatentRows
        | Extent::LatentColumns
        | Extent::PictureRows
        | Extent::PictureColumns => None,
    };
    data.map(|input| {
        let row = input.shape.iter().filter_map(extent).collect();
        (input.name.clone(), row)
    })
    .collect()
}

/// The input of the denoiser that holds sizes of pictures and not text.
pub(super) fn size_input(pipeline: &Pipeline) -> Option<String> {
    let denoiser = pipeline.of_task(Task::Denoise).ok()?;
    let input = denoiser.input(InputRole::SizeIds)?;
    Some(input.name.clone())
}
