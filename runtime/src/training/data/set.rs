//! Data sets: which form the files have, and the samples in them.
//!
//! Takes files by name, returns pictures with captions or encoded samples. An index is made once:
//! names, captions in metadata files and headers of shards are read, no picture is.

use std::sync::Arc;

use bytes::Bytes;

use super::buckets::{Bucket, nearest};
use super::encoded::{EncodedSet, INDEX};
use super::error::{DataError, Unreadable};
use super::files::DataFiles;
use super::sample::{Captions, PictureSample};
use super::{folder, webdataset};
use crate::pictures;

/// The most samples of a data set: their numbers have 32 bits.
const SAMPLES_MAX: usize = u32::MAX as usize;

/// The data of a training in any of its forms.
pub enum DataSet {
    /// Pictures and captions, in a folder or in webdataset shards.
    Pictures(PictureSet),
    /// Latents and embeddings, as `splamc encode` writes them.
    Encoded(EncodedSet),
}

/// Pictures with captions.
pub struct PictureSet {
    pub(super) files: Arc<dyn DataFiles>,
    pub(super) samples: Vec<PictureSample>,
}

impl DataSet {
    /// Reads the index of a data set: encoded if there is an `encoded.json`, webdataset if there
    /// are `.tar` files, otherwise a folder of pictures.
    ///
    /// # Errors
    /// When a file of the index cannot be read or is damaged, or there is no sample or no caption.
    pub fn open(files: Arc<dyn DataFiles>) -> Result<DataSet, DataError> {
        let names = listed(&*files)?;
        if names.iter().any(|name| name == INDEX) {
            return Ok(DataSet::Encoded(EncodedSet::open(files)?));
        }
        let pictures = PictureSet::of(files, &names)?;
        let has_caption = |sample: &PictureSample| sample.captions != Captions::Missing;
        match pictures.samples.iter().any(has_caption) {
            true => Ok(DataSet::Pictures(pictures)),
            false => Err(DataError::NoCaptions {
                samples: pictures.count(),
            }),
        }
    }
}

/// The names of all files.
fn listed(files: &dyn DataFiles) -> Result<Vec<String>, DataError> {
    files.list().map_err(|error| DataError::List {
        reason: error.to_string(),
    })
}

impl PictureSet {
    /// Reads the index of pictures, whether they have captions or not: webdataset shards if there
    /// are `.tar` files, otherwise a folder.
    ///
    /// # Errors
    /// When a file of the index cannot be read or is damaged, or there is no picture.
    pub fn open(files: Arc<dyn DataFiles>) -> Result<PictureSet, DataError> {
        let names = listed(&*files)?;
        PictureSet::of(files, &names)
    }

    fn of(files: Arc<dyn DataFiles>, names: &[String]) -> Result<PictureSet, DataError> {
        let mut shards = names.iter().filter(|name| webdataset::is_shard(name));
        let samples = match shards.next() {
            Some(first) => {
                let mut samples = Vec::new();
                for shard in [first].into_iter().chain(shards) {
                    samples.extend(webdataset::samples(&*files, shard)?);
                }
                samples
            }
            None => folder::samples(&*files, names)?,
        };
        match samples.len() {
            0 => Err(DataError::Empty { files: names.len() }),
            1..=SAMPLES_MAX => Ok(PictureSet { files, samples }),
            _ => Err(DataError::TooMany { max: SAMPLES_MAX }),
        }
    }

    /// The number of samples, at least 1. Some of them may turn out to be unreadable.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// The name of a sample: that of its picture.
    ///
    /// # Panics
    /// When there is no such sample; so do the other functions of one sample.
    pub fn name(&self, sample: usize) -> &str {
        &self.samples[sample].name
    }

    /// The file of a picture.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&self, sample: usize) -> Result<Bytes, Unreadable> {
        self.samples[sample].picture.read(&*self.files)
    }

    /// The captions of a picture, at least one.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn captions(&self, sample: usize) -> Result<Vec<String>, Unreadable> {
        self.samples[sample].captions.read(&*self.files)
    }

    /// The samples of each size `[rows, columns]` in pixels; those without samples are left out.
    /// With one size it has all samples. With several, a sample is at the one whose aspect is
    /// nearest: the headers of all pictures are read, and `on_sample` is called after each. A
    /// picture that cannot be read is at the first size; it is skipped later.
    pub fn buckets(&self, sizes: &[[usize; 2]], on_sample: &mut dyn FnMut()) -> Vec<Bucket> {
        let bucket = |size: &[usize; 2]| Bucket {
            size: *size,
            samples: Vec::new(),
        };
        let mut buckets: Vec<Bucket> = sizes.iter().map(bucket).collect();
        for (number, sample) in (0..).zip(&self.samples) {
            let place = match sizes.len() {
                0 | 1 => 0,
                _ => self.size(sample).map_or(0, |size| nearest(size, sizes)),
            };
            if let Some(bucket) = buckets.get_mut(place) {
                bucket.samples.push(number);
            }
            on_sample();
        }
        buckets.retain(|bucket| !bucket.samples.is_empty());
        buckets
    }

    /// Rows and columns of a picture, of whose file no more is read than that needs.
    fn size(&self, sample: &PictureSample) -> Option<[usize; 2]> {
        /// Enough for the headers of most pictures without a thumbnail.
        const HEAD_BYTES: u64 = 4096;
        let head = sample.picture.head(&*self.files, HEAD_BYTES).ok()?;
        pictures::size(&head).or_else(|| pictures::size(&sample.picture.read(&*self.files).ok()?))
    }
}
