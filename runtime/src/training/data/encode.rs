//! One picture from its file to the posterior of its latents.
//!
//! Takes a sample and loaded encoders; reads, decodes, prepares and encodes.

use super::buckets::nearest;
use super::encoder::{Encoder, Roles};
use super::error::Fault;
use super::prepare::{Preparation, Prepared, prepare};
use super::sample::PictureSample;
use super::set::PictureSet;
use crate::pictures::Picture;
use crate::pipeline::{PictureSizes, Posterior};
use crate::training::draws::{Address, Draws};

/// An encoded picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Encoded {
    /// Its latents.
    pub(super) posterior: Posterior,
    /// What size conditioning says of it.
    pub(super) sizes: PictureSizes,
}

/// Encodes the picture of a sample at the size in `sizes` whose aspect is nearest.
///
/// # Errors
/// When it cannot be read or decoded, and that of the network when it fails.
pub(super) fn encoded(
    (encoder, roles): (&Encoder, &Roles<'_>),
    (set, sample): (&PictureSet, &PictureSample),
    sizes: &[[usize; 2]],
    preparation: Preparation,
    (draws, at): (Draws, Address),
) -> Result<Encoded, Fault> {
    let file = sample.picture.read(&*set.files)?;
    let picture = Picture::decode(&file)?;
    let size = sizes[nearest(picture.size(), sizes)];
    let Prepared { pixels, sizes } = prepare(&picture, size, preparation, draws, at)?;
    let posterior = encoder.posterior(roles, &pixels, &sample.name)?;
    Ok(Encoded { posterior, sizes })
}
