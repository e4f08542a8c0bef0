//! `--data PATH` in any of its forms, and the encoders that prepare what it holds.
//!
//! Takes a path or a pattern of paths, returns the index of a data set; takes a model, returns its
//! encoders, compiled and ready to be loaded. What the files hold is decided by `runtime`.

mod encoders;
mod files;
mod pattern;

use std::path::Path;
use std::sync::Arc;

use compiler::program::pipeline::Latents;
use runtime::training::checkpoint;
use runtime::training::data::{Bucket, Crop, DataFiles, DataSet, PictureSet, bucket_sizes};

use crate::error::{At, Failure};
use crate::{options, progress};

pub(crate) use encoders::encoders;

/// How pictures become those that are encoded.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PictureOptions {
    /// The size of pictures in pixels, as N for squares or WxH; the model's own if not given
    #[arg(long, value_name = "N|WxH", value_parser = options::resolution)]
    pub(crate) resolution: Option<[usize; 2]>,
    /// Crop pictures at their centre; at random places if not given
    #[arg(long)]
    pub(crate) center_crop: bool,
    /// Use several sizes of about the same number of pixels, from 1:2 to 2:1, and each picture at
    /// the one nearest to its own aspect
    #[arg(long)]
    pub(crate) aspect_buckets: bool,
}

impl PictureOptions {
    /// Where pictures are cropped.
    pub(crate) fn crop(&self) -> Crop {
        match self.center_crop {
            true => Crop::Center,
            false => Crop::Random,
        }
    }

    /// The sizes of pictures, as rows and columns in pixels.
    pub(crate) fn sizes(&self, latents: &Latents) -> Result<Vec<[usize; 2]>, Failure> {
        let [height, width] = self.resolution.map_or([None, None], |size| size.map(Some));
        let size = latents.of_pixels(1, width, height)?;
        let size = [size.height, size.width].map(|extent| extent * latents.pixels);
        Ok(match self.aspect_buckets {
            true => bucket_sizes(size, latents.pixels),
            false => vec![size],
        })
    }
}

/// The index of the data set at `path`.
pub(crate) fn open(path: &Path) -> Result<DataSet, Failure> {
    let spinner = progress::spinner("index");
    let files = files::open(path)?;
    let set = DataSet::open(Arc::new(files)).at(path.display());
    drop(spinner);
    set
}

/// The pictures at `path`, with captions or without.
pub(crate) fn pictures(path: &Path) -> Result<PictureSet, Failure> {
    let spinner = progress::spinner("index");
    let files = files::open(path)?;
    let set = PictureSet::open(Arc::new(files)).at(path.display());
    drop(spinner);
    set
}

/// The pictures of each size.
pub(crate) fn buckets(pictures: &PictureSet, sizes: &[[usize; 2]]) -> Vec<Bucket> {
    let bar = progress::bar("sizes", pictures.count());
    let buckets = pictures.buckets(sizes, &mut || bar.inc(1));
    bar.finish_and_clear();
    buckets
}

/// What tells a data set from others: the names and lengths of its files.
pub(crate) fn fingerprint(path: &Path) -> Result<String, Failure> {
    let files = files::open(path)?;
    let place = path.display();
    let mut facts = Vec::new();
    for name in files.list().at(&place)? {
        let length = files.length(&name).at(&place)?;
        facts.push(format!("{name} {length}\n"));
    }
    Ok(checkpoint::fingerprint(facts))
}
