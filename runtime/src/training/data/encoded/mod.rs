//! Encoded data: posteriors of pictures and embeddings of captions, as `splamc encode` writes them.
//!
//! Takes the files of such a folder, returns its samples; or takes pictures and encoders, returns
//! the files. Stored latents are not scaled, and are drawn from their posterior each time.

mod index;
mod shard;
mod write;

pub use index::{EncodedIndex, INDEX, LatentFacts, UNCONDITIONAL, shard_files};
pub use write::{EncodedShard, Encoding};

use std::collections::BTreeMap;
use std::sync::Arc;

use compiler::DType;
use compiler::program::pipeline::Pipeline;
use compiler::value::tensor::Tensor;
use serde::de::DeserializeOwned;

use super::buckets::Bucket;
use super::error::{DataError, Unreadable};
use super::files::{DataFiles, read};
use crate::pipeline::Posterior;
use crate::tensor_file;
use index::{FORMAT, ShardList, conditions, size_input, tensor_name};
use shard::Shard;

/// Samples that are encoded.
pub struct EncodedSet {
    files: Arc<dyn DataFiles>,
    index: EncodedIndex,
    samples: Vec<EncodedSample>,
}

/// Where a sample is.
struct EncodedSample {
    number: u32,
    name: String,
    /// Rows and columns of its picture.
    size: [usize; 2],
}

impl EncodedSet {
    /// Reads the index of an encoded data set.
    ///
    /// # Errors
    /// When a file of the index is missing or damaged, or there is no sample.
    pub fn open(files: Arc<dyn DataFiles>) -> Result<EncodedSet, DataError> {
        let index: EncodedIndex = parsed(&*files, INDEX)?;
        let wrong = |reason: String| DataError::Encoded {
            file: INDEX.to_owned(),
            reason,
        };
        if index.format != FORMAT {
            let found = &index.format;
            return Err(wrong(format!(
                "found the format {found:?}, expected {FORMAT:?}\nhint: encode the data again"
            )));
        }
        let mut samples = Vec::new();
        for number in 0..index.shards() {
            let [_, list] = shard_files(number);
            if let Err(error) = files.length(&list) {
                let shards = index.shards();
                return Err(wrong(format!(
                    "shard {number} of {shards} is missing ({list}: {error})\nhint: run the same \
                     splamc encode again: it goes on where it was ended"
                )));
            }
            let list: ShardList = parsed(&*files, &list)?;
            samples.extend(list.samples.into_iter().map(|own| EncodedSample {
                number: own.number,
                size: own.sizes().target,
                name: own.name,
            }));
        }
        match samples.is_empty() {
            true => Err(wrong("found no sample; all were skipped".to_owned())),
            false => Ok(EncodedSet {
                files,
                index,
                samples,
            }),
        }
    }

    /// The number of samples, at least 1.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// What `encoded.json` says.
    pub fn index(&self) -> &EncodedIndex {
        &self.index
    }

    /// The samples by the sizes of their pictures.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut sizes: BTreeMap<[usize; 2], Vec<u32>> = BTreeMap::new();
        for (sample, own) in (0..).zip(&self.samples) {
            sizes.entry(own.size).or_default().push(sample);
        }
        let bucket = |(size, samples)| Bucket { size, samples };
        sizes.into_iter().map(bucket).collect()
    }

    /// Refuses data that were encoded for another pipeline.
    pub(super) fn check(&self, pipeline: &Pipeline) -> Result<(), DataError> {
        let wrong = |found: String, wanted: String| {
            let model = &self.index.model;
            Err(DataError::Encoded {
                file: INDEX.to_owned(),
                reason: format!(
                    "it was encoded by {model}: found {found}, the model has {wanted}\nhint: \
                     encode the data with the model that is trained"
                ),
            })
        };
        let latents = LatentFacts::of(&pipeline.latents);
        let own = &self.index;
        if own.latents != latents {
            return wrong(format!("{:?}", own.latents), format!("{latents:?}"));
        }
        let conditions = conditions(pipeline);
        if own.conditions != conditions {
            return wrong(format!("{:?}", own.conditions), format!("{conditions:?}"));
        }
        let unconditional = self.unconditional()?;
        let sizes = size_input(pipeline);
        let mut texts = conditions
            .keys()
            .filter(|name| Some(*name) != sizes.as_ref());
        match texts.find(|name| !unconditional.contains_key(*name)) {
            None => Ok(()),
            Some(missing) => Err(DataError::Encoded {
                file: UNCONDITIONAL.to_owned(),
                reason: format!("{missing:?} is missing\nhint: encode the data again"),
            }),
        }
    }

    /// The name of a sample.
    pub(super) fn name(&self, sample: u32) -> &str {
        &self.samples[sample as usize].name
    }

    /// A sample with the caption that `choose` picks among so many; conditions are f32 `[1, …]`.
    ///
    /// # Errors
    /// When its tensors cannot be read, or are missing or of other shapes.
    pub(super) fn read(
        &self,
        sample: u32,
        choose: impl FnOnce(usize) -> usize,
    ) -> Result<(Posterior, BTreeMap<String, Tensor>), Unreadable> {
        let EncodedSample { number, size, .. } = self.samples[sample as usize];
        let place = number as usize / self.index.shard_samples.max(1);
        let [file, _] = shard_files(place);
        let shard = Shard::open(&*self.files, &file)?;
        let LatentFacts {
            channels, pixels, ..
        } = self.index.latents;
        let [height, width] = size.map(|extent| extent / pixels.max(1));
        let latents = [channels, height, width];
        let posterior = Posterior {
            mean: shard.tensor(&tensor_name(number, "mean"), &latents)?,
            log_variance: shard.tensor(&tensor_name(number, "log_variance"), &latents)?,
        };
        let (mut conditions, mut chosen) = (BTreeMap::new(), None);
        let mut choose = Some(choose);
        for (name, row) in &self.index.conditions {
            let tensor = tensor_name(number, name);
            let captions = shard.rows(&tensor, row)?;
            if let Some(choose) = choose.take() {
                chosen = Some(choose(captions));
            }
            let caption = chosen.unwrap_or(0).min(captions - 1);
            conditions.insert(name.clone(), shard.row(&tensor, row, caption)?);
        }
        Ok((posterior, conditions))
    }

    /// What stands for no caption: f32 `[1, …]`.
    pub(super) fn unconditional(&self) -> Result<BTreeMap<String, Tensor>, DataError> {
        let wrong = |reason: String| DataError::Encoded {
            file: UNCONDITIONAL.to_owned(),
            reason,
        };
        let bytes = read(&*self.files, UNCONDITIONAL)?;
        let tensors = tensor_file::read(&bytes).map_err(|error| wrong(error.to_string()))?;
        for (name, tensor) in &tensors {
            let wanted = self.index.conditions.get(name);
            let wanted = wanted.map(|row| [&[1], row.as_slice()].concat());
            let is_wanted = wanted.as_deref() == Some(tensor.shape());
            if !is_wanted || tensor.dtype() != DType::F32 {
                let (found, dtype) = (tensor.shape(), tensor.dtype());
                return Err(wrong(format!(
                    "{name:?} is of type {dtype} and shape {found:?}, expected f32 {wanted:?}"
                )));
            }
        }
        Ok(tensors)
    }
}

/// A JSON file of the index.
fn parsed<T: DeserializeOwned>(files: &dyn DataFiles, name: &str) -> Result<T, DataError> {
    let bytes = read(files, name)?;
    serde_json::from_slice(&bytes).map_err(|error| DataError::Encoded {
        file: name.to_owned(),
        reason: format!("it is damaged: {error}\nhint: delete it and encode the data again"),
    })
}
