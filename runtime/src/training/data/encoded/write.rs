//! Writing encoded data: pictures and captions in, the files of shards out.
//!
//! Takes pictures, loaded encoders and settings, returns the bytes of each shard. It writes nothing
//! itself, and a shard depends on nothing but its number, so that work that was ended goes on.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::program::pipeline::Pipeline;
use compiler::value::tensor::Tensor;
use sha2::{Digest, Sha256};

use super::super::encode::{Encoded, encoded};
use super::super::encoder::{Encoder, Roles};
use super::super::error::{DataError, Fault, Skipped, Unreadable};
use super::super::prepare::{Crop, Preparation};
use super::super::set::PictureSet;
use super::super::skipped::Ledger;
use super::super::stack::stack;
use super::index::{
    EncodedIndex, FORMAT, LatentFacts, Listed, ListedSkipped, ShardList, conditions, tensor_name,
};
use crate::tensor_file;
use crate::training::draws::{Address, Draws};

/// The work of encoding a data set.
pub struct Encoding<'a> {
    pictures: &'a PictureSet,
    pipeline: &'a Pipeline,
    index: EncodedIndex,
    preparation: Preparation,
    ledger: Ledger,
}

/// The files of one shard.
pub struct EncodedShard {
    /// The safetensors file, in parts.
    pub tensors: Vec<Bytes>,
    /// The JSON file that lists its samples, to be written last.
    pub list: Bytes,
    /// The samples that could not be encoded.
    pub skipped: Vec<Skipped>,
}

impl<'a> Encoding<'a> {
    /// The work of encoding pictures at the size in `sizes` whose aspect is nearest. `model` is
    /// what messages call the pipeline; a shard has `shard_samples` samples.
    ///
    /// # Errors
    /// When the pipeline has no denoiser or no encoder of pictures, or there is no size.
    pub fn new(
        pictures: &'a PictureSet,
        (model, pipeline): (&str, &'a Pipeline),
        (sizes, crop): (&[[usize; 2]], Crop),
        seed: u64,
        shard_samples: usize,
    ) -> Result<Encoding<'a>, DataError> {
        Roles::of(pipeline)?;
        if sizes.is_empty() || shard_samples == 0 {
            return Err(DataError::Setting {
                name: "the number of sizes or of a shard's samples",
                found: "0".to_owned(),
                wanted: "at least 1",
            });
        }
        let mut names = Sha256::new();
        for sample in &pictures.samples {
            names.update(sample.name.as_bytes());
            names.update([0]);
        }
        let hash = names.finalize();
        let crop_name = match crop {
            Crop::Center => "center",
            Crop::Random => "random",
        };
        let index = EncodedIndex {
            format: FORMAT.to_owned(),
            model: model.to_owned(),
            latents: LatentFacts::of(&pipeline.latents),
            conditions: conditions(pipeline),
            samples: pictures.count(),
            names: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            sizes: sizes.to_vec(),
            crop: crop_name.to_owned(),
            seed,
            shard_samples,
        };
        Ok(Encoding {
            pictures,
            pipeline,
            index,
            preparation: Preparation { crop, flip: false },
            ledger: Ledger::new(pictures.count()),
        })
    }

    /// What `encoded.json` has to say, before any shard is written.
    pub fn index(&self) -> &EncodedIndex {
        &self.index
    }

    /// The file of what stands for no caption, in parts.
    ///
    /// # Errors
    /// When a text encoder fails.
    pub fn unconditional(&self, encoder: &Encoder) -> Result<Vec<Bytes>, DataError> {
        let roles = Roles::of(self.pipeline)?;
        let tensors = encoder.unconditional(&roles)?;
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Ok(tensor_file::parts(named)?)
    }

    /// The number of samples of a shard.
    pub fn shard_samples(&self, shard: usize) -> usize {
        self.numbers(shard).len()
    }

    fn numbers(&self, shard: usize) -> std::ops::Range<usize> {
        let end = |shard: usize| shard.saturating_mul(self.index.shard_samples);
        let count = self.pictures.count();
        end(shard).min(count)..end(shard + 1).min(count)
    }

    /// Counts what an earlier run skipped in a shard, whose list this is.
    ///
    /// # Errors
    /// When the list is damaged, or too many samples were skipped.
    pub fn resume(&mut self, shard: usize, list: &[u8]) -> Result<(), DataError> {
        let [_, file] = super::shard_files(shard);
        let list: ShardList = serde_json::from_slice(list).map_err(|error| DataError::Encoded {
            file,
            reason: format!("it is damaged: {error}\nhint: delete it"),
        })?;
        for ListedSkipped {
            number,
            name,
            reason,
        } in list.skipped
        {
            self.ledger.skip(number, &name, reason)?;
        }
        Ok(())
    }

    /// Encodes a shard, and calls `on_sample` after each sample.
    ///
    /// # Errors
    /// When a network fails, or too many samples cannot be read.
    pub fn shard(
        &mut self,
        encoder: &Encoder,
        shard: usize,
        on_sample: &mut dyn FnMut(),
    ) -> Result<EncodedShard, DataError> {
        let mut tensors = BTreeMap::new();
        let mut list = ShardList {
            samples: Vec::new(),
            skipped: Vec::new(),
        };
        self.ledger.news();
        for number in self.numbers(shard) {
            let number = number as u32;
            match self.sample(encoder, number) {
                Ok((own, listed)) => {
                    tensors.extend(own);
                    list.samples.push(listed);
                }
                Err(Fault::Unreadable(reason)) => self.skip(number, &reason, &mut list)?,
                Err(Fault::Fatal(error)) => return Err(error),
            }
            on_sample();
        }
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Ok(EncodedShard {
            tensors: tensor_file::parts(named)?,
            list: json(&list),
            skipped: self.ledger.news(),
        })
    }

    fn skip(
        &mut self,
        number: u32,
        reason: &Unreadable,
        list: &mut ShardList,
    ) -> Result<(), DataError> {
        let name = &self.pictures.samples[number as usize].name;
        list.skipped.push(ListedSkipped {
            number,
            name: name.clone(),
            reason: reason.to_string(),
        });
        self.ledger.skip(number, name, reason.to_string())
    }

    /// The tensors of a sample by their names in the shard, and its line in the list.
    fn sample(
        &self,
        encoder: &Encoder,
        number: u32,
    ) -> Result<(Vec<(String, Tensor)>, Listed), Fault> {
        let roles = Roles::of(self.pipeline)?;
        let at = Address {
            step: 0,
            sample: number,
        };
        let draws = Draws::new(self.index.seed);
        let sample = &self.pictures.samples[number as usize];
        let captions = sample.captions.read(&*self.pictures.files)?;
        let Encoded { posterior, sizes } = encoded(
            (encoder, &roles),
            (self.pictures, sample),
            &self.index.sizes,
            self.preparation,
            (draws, at),
        )?;
        let rows = captions.iter().map(|caption| {
            let texts = encoder.texts(&roles, caption)?;
            roles.conditions(&texts, &sizes, caption)
        });
        let rows: Vec<BTreeMap<String, Tensor>> = rows.collect::<Result<_, DataError>>()?;
        let mut tensors = vec![
            (tensor_name(number, "mean"), posterior.mean),
            (tensor_name(number, "log_variance"), posterior.log_variance),
        ];
        for (name, tensor) in stack(&rows) {
            tensors.push((tensor_name(number, &name), tensor));
        }
        let listed = Listed {
            number,
            name: sample.name.clone(),
            captions,
            original: sizes.original,
            crop: sizes.crop,
            target: sizes.target,
        };
        Ok((tensors, listed))
    }
}

fn json(list: &ShardList) -> Bytes {
    let json = serde_json::to_vec(list).expect("texts and numbers are JSON");
    json.into()
}
