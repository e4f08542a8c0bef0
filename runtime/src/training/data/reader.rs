//! Samples in any form, as batches are made of them.
//!
//! Takes the number of a sample and what is drawn for it, returns the posterior of its latents and
//! its conditions: encoded now, or read as they were encoded before.

use std::collections::BTreeMap;

use compiler::program::pipeline::Pipeline;
use compiler::value::tensor::Tensor;

use super::buckets::Bucket;
use super::cache::Cache;
use super::encode::{Encoded, encoded};
use super::encoded::EncodedSet;
use super::encoder::{Encoder, Roles};
use super::error::{DataError, Fault};
use super::order::place;
use super::prepare::{Crop, Preparation, is_flipped};
use super::set::PictureSet;
use crate::pipeline::{Posterior, Text};
use crate::training::draws::{Address, Draws, Purpose};

/// A sample before its latents are drawn.
pub(super) struct Sample {
    /// The latents' distribution.
    pub(super) posterior: Posterior,
    /// By the names of the denoiser's inputs: f32 `[1, …]`.
    pub(super) conditions: BTreeMap<String, Tensor>,
}

/// Reads samples of a data set.
pub(super) enum Reader<'a> {
    /// Encodes pictures.
    Pictures(Box<PictureReader<'a>>),
    /// Reads what was encoded.
    Encoded(&'a EncodedSet, Draws),
}

/// Encodes pictures and captions, each once as long as there is memory.
pub(super) struct PictureReader<'a> {
    set: &'a PictureSet,
    buckets: &'a [Bucket],
    preparation: Preparation,
    encoder: Encoder,
    roles: Roles<'a>,
    draws: Draws,
    texts: Cache<String, Vec<Text>>,
    /// By sample and whether it is mirrored.
    pictures: Cache<(u32, bool), Encoded>,
}

impl<'a> PictureReader<'a> {
    /// Reads pictures with an encoder. Half of `cache_bytes` is for texts, half for pictures.
    ///
    /// # Errors
    /// When the pipeline has no denoiser or no encoder of pictures.
    pub(super) fn new(
        (set, buckets): (&'a PictureSet, &'a [Bucket]),
        preparation: Preparation,
        (encoder, pipeline): (Encoder, &'a Pipeline),
        seed: u64,
        cache_bytes: u64,
    ) -> Result<PictureReader<'a>, DataError> {
        Ok(PictureReader {
            set,
            buckets,
            preparation,
            encoder,
            roles: Roles::of(pipeline)?,
            draws: Draws::new(seed),
            texts: Cache::new(cache_bytes / 2),
            pictures: Cache::new(cache_bytes / 2),
        })
    }

    fn sample(&mut self, bucket: usize, number: u32, at: Address) -> Result<Sample, Fault> {
        let sample = &self.set.samples[number as usize];
        let captions = sample.captions.read(&*self.set.files)?;
        let caption = &captions[choice(self.draws, at, captions.len())];
        let (encoder, roles) = (&self.encoder, &self.roles);
        let (preparation, draws) = (self.preparation, self.draws);
        let size = &self.buckets[bucket].size;
        let make = || {
            let sizes = std::slice::from_ref(size);
            let sample = (self.set, sample);
            encoded((encoder, roles), sample, sizes, preparation, (draws, at))
        };
        let Encoded { posterior, sizes } = match preparation.crop {
            Crop::Random => make()?,
            Crop::Center => {
                let key = (number, is_flipped(preparation, draws, at));
                self.pictures.value(key, picture_bytes, |_| make())?
            }
        };
        let texts = self.texts.value(
            caption.clone(),
            |texts| text_bytes(texts),
            |caption| encoder.texts(roles, caption),
        )?;
        Ok(Sample {
            posterior,
            conditions: roles.conditions(&texts, &sizes, &sample.name)?,
        })
    }
}

impl Reader<'_> {
    /// The number of samples.
    pub(super) fn count(&self) -> usize {
        match self {
            Reader::Pictures(reader) => reader.set.count(),
            Reader::Encoded(set, _) => set.count(),
        }
    }

    /// The samples of each bucket.
    pub(super) fn buckets(&self) -> Vec<Vec<u32>> {
        let samples = |bucket: &Bucket| bucket.samples.clone();
        match self {
            Reader::Pictures(reader) => reader.buckets.iter().map(samples).collect(),
            Reader::Encoded(set, _) => set.buckets().iter().map(samples).collect(),
        }
    }

    /// The name of a sample.
    pub(super) fn name(&self, sample: u32) -> &str {
        match self {
            Reader::Pictures(reader) => &reader.set.samples[sample as usize].name,
            Reader::Encoded(set, _) => set.name(sample),
        }
    }

    /// What stands for no caption, without sizes: f32 `[1, …]`.
    ///
    /// # Errors
    /// When it cannot be encoded or read.
    pub(super) fn unconditional(&mut self) -> Result<BTreeMap<String, Tensor>, DataError> {
        match self {
            Reader::Pictures(reader) => reader.encoder.unconditional(&reader.roles),
            Reader::Encoded(set, _) => set.unconditional(),
        }
    }

    /// A sample of a bucket, with the crop, the mirroring and the caption that are drawn at an
    /// address.
    ///
    /// # Errors
    /// When it cannot be read, and that of a network when it fails.
    pub(super) fn sample(
        &mut self,
        bucket: usize,
        sample: u32,
        at: Address,
    ) -> Result<Sample, Fault> {
        match self {
            Reader::Pictures(reader) => reader.sample(bucket, sample, at),
            Reader::Encoded(set, draws) => {
                let choose = |captions| choice(*draws, at, captions);
                let (posterior, conditions) = set.read(sample, choose)?;
                Ok(Sample {
                    posterior,
                    conditions,
                })
            }
        }
    }
}

/// The index of the caption that is drawn, of `captions` ones.
fn choice(draws: Draws, at: Address, captions: usize) -> usize {
    let mut uniforms = draws.uniforms(Purpose::Caption, at);
    place(uniforms.next().unwrap_or(0.0), captions)
}

fn picture_bytes(picture: &Encoded) -> u64 {
    2 * picture.posterior.mean.bytes().len() as u64
}

fn text_bytes(texts: &[Text]) -> u64 {
    let pooled = |text: &Text| text.pooled.as_ref().map_or(0, |own| own.bytes().len());
    let bytes = texts
        .iter()
        .map(|text| text.hidden.bytes().len() + pooled(text));
    bytes.sum::<usize>() as u64
}
