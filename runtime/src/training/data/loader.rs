//! The loader: batches in order, made ahead by a thread of its own.
//!
//! Takes a data set, a pipeline, settings and the number of the first batch; returns one batch
//! after the other. Where it begins and how far it reads ahead change nothing of what a batch is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use compiler::program::pipeline::Pipeline;

use super::batch::{Assembler, Batch, Settings};
use super::buckets::Bucket;
use super::encoded::EncodedSet;
use super::encoder::OpenEncoder;
use super::error::DataError;
use super::prepare::Preparation;
use super::reader::{PictureReader, Reader};
use super::set::PictureSet;
use crate::training::draws::Draws;

/// What batches are made of.
pub enum Feed {
    /// Pictures that are encoded while the training goes on.
    Pictures(PictureFeed),
    /// Samples that were encoded before.
    Encoded(EncodedSet),
}

/// Pictures and what encodes them.
pub struct PictureFeed {
    /// The pictures.
    pub pictures: PictureSet,
    /// Which of them are trained at which size: [`PictureSet::buckets`]. Batches hold pictures of
    /// one bucket.
    pub buckets: Vec<Bucket>,
    /// Cropping and mirroring.
    pub preparation: Preparation,
    /// Opens the encoders; they need a network for the size of every bucket.
    pub encoder: OpenEncoder,
    /// The most memory for what was encoded before. Texts are always kept within it, pictures if
    /// they are cropped at their centre.
    pub cache_bytes: u64,
}

/// Batches in order.
pub struct Loader {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// The sizes of pictures in the feed: rows and columns, in pixels.
    pub fn sizes(&self) -> Vec<[usize; 2]> {
        let size = |bucket: &Bucket| bucket.size;
        match self {
            Feed::Pictures(feed) => feed.buckets.iter().map(size).collect(),
            Feed::Encoded(set) => set.buckets().iter().map(size).collect(),
        }
    }
}

impl Loader {
    /// Starts to make batches, the one of number `first` first.
    ///
    /// # Errors
    /// When a setting is out of range, encoded data are of another model, or no thread can be
    /// started. Errors of the encoders and the samples come with the batches.
    pub fn start(
        feed: Feed,
        pipeline: &Pipeline,
        settings: Settings,
        first: u64,
    ) -> Result<Loader, DataError> {
        settings.check(first)?;
        match &feed {
            Feed::Encoded(set) => set.check(pipeline)?,
            Feed::Pictures(feed) if feed.buckets.is_empty() => {
                return Err(DataError::Setting {
                    name: "the number of buckets",
                    found: "0".to_owned(),
                    wanted: "at least 1",
                });
            }
            Feed::Pictures(_) => {}
        }
        let (sender, batches) = sync_channel(settings.ahead);
        let ended = Arc::new(AtomicBool::new(false));
        let (pipeline, is_ended) = (pipeline.clone(), ended.clone());
        let work = move || {
            if let Err(error) = make(feed, &pipeline, settings, first, &sender, &is_ended) {
                // Where nobody waits any more, nobody needs it.
                let _ = sender.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("data".to_owned()).spawn(work);
        let thread = thread.map_err(|error| DataError::Thread {
            reason: error.to_string(),
        })?;
        Ok(Loader {
            batches: Some(batches),
            ended,
            thread: Some(thread),
        })
    }

    /// The next batch, once it is made.
    ///
    /// # Errors
    /// When the encoders cannot be opened or fail, or too many samples cannot be used;
    /// [`DataError::Ended`] after that.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        let batches = self.batches.as_ref().ok_or(DataError::Ended)?;
        batches.recv().map_err(|_| DataError::Ended)?
    }
}

impl Drop for Loader {
    /// Ends the thread, at the latest after the sample that it is encoding: a device may not be in
    /// use when the process ends.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Makes batches until nobody takes them.
fn make(
    feed: Feed,
    pipeline: &Pipeline,
    settings: Settings,
    first: u64,
    sender: &SyncSender<Result<Batch, DataError>>,
    ended: &AtomicBool,
) -> Result<(), DataError> {
    let (pictures, encoded);
    let reader = match feed {
        Feed::Pictures(feed) => {
            let encoder = (feed.encoder)()?;
            pictures = (feed.pictures, feed.buckets);
            Reader::Pictures(Box::new(PictureReader::new(
                (&pictures.0, &pictures.1),
                feed.preparation,
                (encoder, pipeline),
                settings.seed,
                feed.cache_bytes,
            )?))
        }
        Feed::Encoded(set) => {
            encoded = set;
            Reader::Encoded(&encoded, Draws::new(settings.seed))
        }
    };
    let mut assembler = Assembler::new(settings, pipeline.latents.clone(), reader)?;
    for number in first.. {
        let Some(batch) = assembler.batch(number, ended)? else {
            break;
        };
        if sender.send(Ok(batch)).is_err() {
            break;
        }
    }
    Ok(())
}
