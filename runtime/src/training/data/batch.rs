//! Batches: latents and conditions of the samples whose turn it is.
//!
//! Takes samples in any form, the order and draws; returns the batch of a number. A batch is a pure
//! function of the files, the settings and its number. A sample that cannot be used is replaced by
//! another one for its own place, and the order of the others stays as it is.

use std::collections::BTreeMap;
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};

use compiler::program::pipeline::Latents;
use compiler::value::tensor::Tensor;

use super::error::{DataError, Fault, Skipped};
use super::order::Order;
use super::reader::{Reader, Sample};
use super::skipped::Ledger;
use super::stack::{rows, stack};
use crate::training::draws::{Address, Draws, Purpose};

/// What one micro-batch of a training is fed.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Its number: of update `s` and its micro-batch `m`, `s·accumulate + m`.
    pub number: u64,
    /// f32 `[batch, channels, height, width]`, drawn from the posteriors and scaled as the denoiser
    /// sees latents.
    pub latents: Tensor,
    /// What the denoiser is fed for captions and sizes, by its inputs' names: f32 `[batch, …]`.
    pub conditions: BTreeMap<String, Tensor>,
    /// The same without captions: zeros or the empty text, of the same names and shapes; sizes are
    /// those of the samples.
    pub unconditional: BTreeMap<String, Tensor>,
    /// The names of its samples.
    pub names: Vec<String>,
    /// The samples that were found to be unreadable since the batch before.
    pub skipped: Vec<Skipped>,
}

/// How batches are made, whatever of.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// Samples of a batch, at least 1.
    pub batch: usize,
    /// Batches of an update, at least 1.
    pub accumulate: usize,
    /// Batches that are made ahead, at least 1.
    pub ahead: usize,
}

impl Settings {
    /// Refuses settings that mean nothing, and a first batch whose address has no number.
    pub(super) fn check(&self, first: u64) -> Result<(), DataError> {
        const COUNT: &str = "a whole number of at least 1 that is less than 2^32";
        let samples = self.batch.saturating_mul(self.accumulate);
        let update = first.checked_div(self.accumulate as u64).unwrap_or(0);
        let max = u64::from(u32::MAX);
        let wrong = |name, found: String, wanted| {
            Err(DataError::Setting {
                name,
                found,
                wanted,
            })
        };
        if samples == 0 || samples as u64 > max {
            wrong(
                "the number of samples of an update",
                samples.to_string(),
                COUNT,
            )
        } else if self.ahead == 0 {
            wrong("the number of batches made ahead", "0".to_owned(), COUNT)
        } else if update >= max {
            wrong("the update", update.to_string(), "a number below 2^32")
        } else {
            Ok(())
        }
    }

    /// The address of a place in a batch.
    fn address(&self, batch: u64, place: usize) -> Address {
        let update = self.accumulate as u64;
        let before = (batch % update) as usize * self.batch;
        Address {
            step: (batch / update) as u32,
            sample: (before + place) as u32,
        }
    }
}

/// Makes batches.
pub(super) struct Assembler<'a> {
    settings: Settings,
    latents: Latents,
    reader: Reader<'a>,
    order: Order,
    ledger: Ledger,
    /// What stands for no caption, `[1, …]`.
    unconditional: BTreeMap<String, Tensor>,
}

impl<'a> Assembler<'a> {
    /// Makes batches of what `reader` reads.
    ///
    /// # Errors
    /// When what stands for no caption cannot be had.
    pub(super) fn new(
        settings: Settings,
        latents: Latents,
        mut reader: Reader<'a>,
    ) -> Result<Assembler<'a>, DataError> {
        let buckets = reader.buckets();
        Ok(Assembler {
            order: Order::new(settings.seed, settings.batch, buckets),
            ledger: Ledger::new(reader.count()),
            unconditional: reader.unconditional()?,
            settings,
            latents,
            reader,
        })
    }

    /// The batch of this number; `None` once `ended` is set.
    ///
    /// # Errors
    /// When too many samples cannot be used, or a network fails.
    pub(super) fn batch(
        &mut self,
        number: u64,
        ended: &AtomicBool,
    ) -> Result<Option<Batch>, DataError> {
        let (bucket, samples) = self.order.batch(number);
        let (mut latents, mut conditions, mut unconditional) = (vec![], vec![], vec![]);
        let mut names = Vec::with_capacity(samples.len());
        for (place, sample) in samples.into_iter().enumerate() {
            if ended.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let at = self.settings.address(number, place);
            let (name, sample) = self.sample(bucket, sample, at)?;
            names.push(name);
            latents.push(self.drawn(&sample, at));
            let mut without = sample.conditions.clone();
            without.extend(self.unconditional.clone());
            conditions.push(sample.conditions);
            unconditional.push(without);
        }
        let differ = || DataError::Setting {
            name: "the size of latents",
            found: "another in one batch".to_owned(),
            wanted: "one size in each bucket",
        };
        Ok(Some(Batch {
            number,
            latents: rows(latents.iter()).ok_or_else(differ)?,
            conditions: stack(&conditions),
            unconditional: stack(&unconditional),
            names,
            skipped: self.ledger.news(),
        }))
    }

    /// The sample whose turn it is, or the first that can be used of those that may replace it.
    fn sample(
        &mut self,
        bucket: usize,
        first: u32,
        at: Address,
    ) -> Result<(String, Sample), DataError> {
        let replacements = self.order.replacements(bucket, at);
        for sample in iter::once(first).chain(replacements) {
            if !self.ledger.has(sample) {
                match self.reader.sample(bucket, sample, at) {
                    Ok(found) => return Ok((self.reader.name(sample).to_owned(), found)),
                    Err(Fault::Fatal(error)) => return Err(error),
                    Err(Fault::Unreadable(reason)) => {
                        let name = self.reader.name(sample);
                        self.ledger.skip(sample, name, reason.to_string())?;
                    }
                }
            }
            let mut samples = self.order.samples(bucket).iter();
            if samples.all(|sample| self.ledger.has(*sample)) {
                break;
            }
        }
        Err(self.ledger.too_many())
    }

    /// The latents of a sample `[1, channels, height, width]`.
    fn drawn(&self, sample: &Sample, at: Address) -> Tensor {
        let normals = Draws::new(self.settings.seed).normals(Purpose::Posterior, at);
        let values = sample.posterior.sample(&self.latents, normals);
        let shape = [&[1], sample.posterior.mean.shape()].concat();
        Tensor::from_f32(&shape, &values)
    }
}
