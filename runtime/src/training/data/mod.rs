//! Data of a training: pictures and captions in, batches of latents and conditions out.
//!
//! Takes files by name, loaded encoders and a seed. [`DataSet::open`] reads the index of a folder
//! of pictures, of webdataset shards, or of what [`Encoding`] wrote; a [`Loader`] makes batches of
//! it, whose order and contents are a pure function of the seed and the batch's number. It opens no
//! path, prints nothing, and knows no model: the pipeline is data.

mod batch;
mod buckets;
mod cache;
mod encode;
mod encoded;
mod encoder;
mod error;
mod files;
mod folder;
mod loader;
mod metadata;
mod order;
mod prepare;
mod reader;
mod sample;
mod set;
mod skipped;
mod stack;
#[cfg(test)]
mod tests;
mod webdataset;

pub use batch::{Batch, Settings};
pub use buckets::{Bucket, bucket_sizes};
pub use encoded::{
    EncodedIndex, EncodedSet, EncodedShard, Encoding, INDEX, LatentFacts, UNCONDITIONAL,
    shard_files,
};
pub use encoder::{Encoder, OpenEncoder, PictureNetwork, TextNetwork};
pub use error::{DataError, Skipped, Unreadable};
pub use files::DataFiles;
pub use loader::{Feed, Loader, PictureFeed};
pub use prepare::{Crop, Preparation};
pub use set::{DataSet, PictureSet};
