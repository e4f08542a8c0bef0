//! Where the batches of a training come from: data, a file of draws, or both.
//!
//! Takes the options, returns batches and their sizes. Data that are not encoded are encoded by the
//! teacher's own networks, ahead of the training.

use std::error::Error;
use std::path::Path;

use compiler::DType;
use compiler::program::pipeline::LatentSize;
use compiler::program::training::Drawn;
use graphs::distill;
use runtime::place::Place as Device;
use runtime::training::data::{self as loading, DataSet, Feed, Loader, PictureFeed, Preparation};
use runtime::training::feed::{Batch, Place};
use runtime::training::run::Batches;

use crate::error::{At, Failure};
use crate::model::Model;
use crate::{data, progress};

use super::arguments::Arguments;
use super::draws::Draws;
use super::settings::Chosen;
use super::step;

/// Batches and what is known of them.
pub(crate) struct Source {
    /// The file of draws, if there is one.
    draws: Option<Draws>,
    /// The data, if they are read.
    feed: Option<Feed>,
    /// Samples, rows, columns and tokens of micro-batches, one for each size of pictures.
    pub(crate) sizes: Vec<distill::Sizes>,
    /// The type that networks compute in.
    pub(crate) dtype: DType,
    /// What tells the data from others.
    pub(crate) fingerprint: String,
    /// Updates that there are batches for, if they end.
    pub(crate) steps: Option<u64>,
    /// How often a caption is dropped: never where the file of draws says what each sample sees.
    pub(crate) caption_dropout: f64,
}

impl Source {
    /// The batches that the options ask for. Encoders are compiled, but not loaded yet.
    pub(crate) fn open(
        arguments: &Arguments,
        chosen: &Chosen,
        model: &Model,
        device: &Device,
    ) -> Result<Source, Failure> {
        let general = &chosen.general;
        let types = [
            ("f32", DType::F32),
            ("bf16", DType::BF16),
            ("f16", DType::F16),
        ];
        let accumulate = general.positive("accumulate").map_err(Failure::usage)?;
        let draws = arguments.draws.as_deref();
        let draws = draws
            .map(|path| Draws::open(path, accumulate))
            .transpose()?;
        let of_config = chosen.data.as_ref().map(|text| Path::new(text.as_str()));
        let path = arguments.data.as_deref().or(of_config);
        let is_read = draws.as_ref().is_none_or(|draws| !draws.holds_data());
        let (feed, fingerprint) = match (is_read, path) {
            (true, None) => {
                let failure = Failure::usage("no data are given");
                return Err(failure.hint(
                    "pass --data: a folder of pictures with captions, .tar shards, or what \
                     splamc encode wrote",
                ));
            }
            (true, Some(path)) => {
                let feed = feed(arguments, model, path, device)?;
                (Some(feed), data::fingerprint(path)?)
            }
            (false, _) => (None, "draws".to_owned()),
        };
        let batch = draws.as_ref().and_then(Draws::batch);
        let batch = match batch {
            Some(batch) => batch,
            None => general.positive("batch").map_err(Failure::usage)?,
        };
        Ok(Source {
            sizes: sizes(model, batch, draws.as_ref(), feed.as_ref())?,
            steps: draws.as_ref().map(|draws| draws.steps() as u64),
            dtype: general.word("dtype", &types),
            caption_dropout: match is_read {
                true => general
                    .number_within("caption-dropout", 0.0, 1.0)
                    .map_err(Failure::usage)?,
                false => 0.0,
            },
            draws,
            feed,
            fingerprint,
        })
    }

    /// The batches from update `step` on.
    pub(crate) fn start(
        self,
        chosen: &Chosen,
        model: &Model,
        step: u64,
    ) -> Result<Box<dyn Batches>, Failure> {
        let general = &chosen.general;
        let accumulate = general.positive("accumulate").map_err(Failure::usage)?;
        let loaded = self.feed.map(|feed| {
            let settings = loading::Settings {
                seed: general.count("seed") as u64,
                batch: self.sizes[0].batch,
                accumulate,
                ahead: AHEAD,
            };
            let first = step * accumulate as u64;
            Loader::start(feed, model.pipeline(), settings, first).at(model.place())
        });
        let loaded: Option<Box<dyn Batches>> = match loaded.transpose()? {
            Some(loader) => Some(Box::new(Loaded(loader))),
            None => None,
        };
        match (self.draws, loaded) {
            (Some(draws), rest) => Ok(Box::new(draws.with(rest))),
            (None, Some(loaded)) => Ok(loaded),
            (None, None) => unreachable!("without draws there are data"),
        }
    }
}

/// Batches that are made ahead of the training.
const AHEAD: usize = 4;

/// The most memory for samples that are encoded while the training goes on.
const CACHE_BYTES: u64 = 1 << 30;

/// The data at `path`, and what encodes them.
fn feed(
    arguments: &Arguments,
    model: &Model,
    path: &Path,
    device: &Device,
) -> Result<Feed, Failure> {
    let feed = match data::open(path)? {
        DataSet::Encoded(set) => Feed::Encoded(set),
        DataSet::Pictures(pictures) => {
            let sizes = arguments.pictures.sizes(&model.pipeline().latents)?;
            let buckets = data::buckets(&pictures, &sizes);
            let used: Vec<[usize; 2]> = buckets.iter().map(|bucket| bucket.size).collect();
            Feed::Pictures(PictureFeed {
                buckets,
                preparation: Preparation {
                    crop: arguments.pictures.crop(),
                    flip: arguments.flip,
                },
                encoder: data::encoders(model, device, &used)?,
                cache_bytes: CACHE_BYTES,
                pictures,
            })
        }
    };
    Ok(feed)
}

/// The sizes of micro-batches; at least one.
fn sizes(
    model: &Model,
    batch: usize,
    draws: Option<&Draws>,
    feed: Option<&Feed>,
) -> Result<Vec<distill::Sizes>, Failure> {
    let latents = &model.pipeline().latents;
    let (of_draws, tokens) = draws.map_or((None, None), Draws::sizes);
    let of_data = feed.map_or_else(Vec::new, Feed::sizes).into_iter();
    let mut of_latents: Vec<[usize; 2]> = match of_draws {
        Some(size) => vec![size],
        None => of_data
            .map(|size| size.map(|extent| extent / latents.pixels))
            .collect(),
    };
    if of_latents.is_empty() {
        of_latents.push(latents.size);
    }
    let of_step = |[height, width]: [usize; 2]| {
        let size = LatentSize {
            batch,
            height,
            width,
        };
        let mut sizes = step::sizes(model, size)?;
        if let Some(tokens) = tokens {
            sizes.tokens = tokens;
        }
        Ok(sizes)
    };
    of_latents.into_iter().map(of_step).collect()
}

/// Batches of a loader.
struct Loaded(Loader);

impl Batches for Loaded {
    fn batch(&mut self, _: Place) -> Result<Batch, Box<dyn Error>> {
        let batch = self.0.next_batch()?;
        for skipped in &batch.skipped {
            progress::warn(format!("{} is skipped: {}", skipped.name, skipped.reason));
        }
        Ok(Batch {
            latents: Some(batch.latents),
            conditions: batch.conditions,
            unconditional: batch.unconditional,
            noise: None,
            drawn: Drawn::new(),
        })
    }
}
