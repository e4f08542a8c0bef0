//! The options that decode pictures in tiles, and the tiles that they mean.
//!
//! Takes options, the size of a run and what a compiled model says; returns tiles that fit the
//! picture, or none. How tiles fade into one another is the runtime's business.

use clap::Args;
use compiler::program::pipeline::LatentSize;
use runtime::artifact::VaeTiling;
use runtime::tiling::Tiling;

use crate::error::Failure;
use crate::model::Model;
use crate::options;

/// Rows and columns of a tile if nothing is asked for: 512 pixels of most models, as diffusers
/// takes them.
const TILE_SIZE: [usize; 2] = [64, 64];

/// The share of a tile that neighbours have in common if nothing is asked for, as in diffusers.
const OVERLAP: f64 = 0.25;

/// More latents along an axis than any picture has are a slip of the keyboard.
const TILE_MAX: usize = 1 << 16;

/// How the decoder sees a picture.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TilingOptions {
    /// Decode in overlapping tiles that are blended: for pictures whose decoder needs more memory
    /// than there is, or more than the target's limits allow
    #[arg(long)]
    vae_tiling: bool,
    /// Width and height of a tile in latents, each 8 pixels wide in most models; implies
    /// --vae-tiling; 64 if not given
    #[arg(long, value_name = "N|WxH", value_parser = tile_size)]
    vae_tile_size: Option<[usize; 2]>,
    /// The share of a tile that overlaps the next, from 0 to below 1: a larger one hides seams and
    /// takes longer; implies --vae-tiling; 0.25 if not given
    #[arg(long, value_name = "SHARE", value_parser = overlap)]
    vae_tile_overlap: Option<f64>,
}

impl TilingOptions {
    /// The tiles asked for; none is larger than the picture.
    pub(crate) fn tiling(&self, size: LatentSize) -> Option<Tiling> {
        let asked =
            self.vae_tiling || self.vae_tile_size.is_some() || self.vae_tile_overlap.is_some();
        asked.then(|| {
            let [height, width] = self.vae_tile_size.unwrap_or(TILE_SIZE);
            let tile = [height.min(size.height), width.min(size.width)];
            tiled(tile, self.vae_tile_overlap.unwrap_or(OVERLAP))
        })
    }

    /// The tiles of a run of `model`: those that it was compiled for, or else those asked for.
    pub(crate) fn of_run(
        &self,
        model: &Model,
        size: LatentSize,
    ) -> Result<Option<Tiling>, Failure> {
        let (own, asked) = (model.tiling()?, self.tiling(size));
        let found = own.map_or([size.height, size.width], |own| own.tile());
        let wanted = match (own, self.vae_tile_size) {
            (Some(_), None) => found,
            (Some(_), Some(_)) | (None, _) => asked.map_or(found, |asked| asked.tile()),
        };
        if model.is_compiled() && wanted != found {
            let [found, wanted] = [found, wanted].map(extents);
            let message = format!("the decoder was compiled for {found} latents, not for {wanted}");
            let options = format!("--vae-tiling --vae-tile-size {wanted}");
            return Err(Failure::job(message).hint(format!("compile it again with {options}")));
        }
        Ok(match (own, self.vae_tile_overlap) {
            (Some(own), Some(share)) => Some(tiled(own.tile(), share)),
            (Some(own), None) => Some(own),
            (None, _) => asked,
        })
    }
}

/// Tiles of which neighbours share that part.
fn tiled(tile: [usize; 2], share: f64) -> Tiling {
    let overlap = tile.map(|extent| (extent as f64 * share) as usize);
    Tiling::new(tile, overlap).expect("a share below 1 of a tile that is not empty")
}

/// The tiles as an artifact says them.
pub(crate) fn stored(tiling: &Tiling) -> VaeTiling {
    let [height, width] = tiling.tile().map(|extent| extent as u64);
    let [overlap_height, overlap_width] = tiling.overlap().map(|extent| extent as u64);
    VaeTiling {
        height,
        width,
        overlap_height,
        overlap_width,
    }
}

/// `9 tiles of 64x64 latents, of which neighbours share 16x16`.
pub(crate) fn described(tiling: &Tiling, size: LatentSize) -> String {
    let count = tiling.count([size.height, size.width]);
    let ending = if count == 1 { "" } else { "s" };
    let (tile, overlap) = (extents(tiling.tile()), extents(tiling.overlap()));
    format!("{count} tile{ending} of {tile} latents, of which neighbours share {overlap}")
}

/// What helps where a decoder needs more than there is: memory, or what a target's limits allow.
pub(crate) fn advice(tiling: Option<Tiling>, model: &Model) -> &'static str {
    match (tiling, model.is_compiled()) {
        (Some(_), _) => "choose smaller tiles (--vae-tile-size)",
        (None, true) => "compile it again with --vae-tiling, which decodes in tiles",
        (None, false) => {
            "--vae-tiling decodes the picture in tiles; or choose a smaller one (-W, -H)"
        }
    }
}

/// Rows and columns as people write them: width first.
fn extents([height, width]: [usize; 2]) -> String {
    format!("{width}x{height}")
}

/// Rows and columns of `N` or `WxH`.
fn tile_size(text: &str) -> Result<[usize; 2], String> {
    let square = format!("{text}x{text}");
    let size = options::size(if text.contains('x') { text } else { &square });
    let fits = |size: &[usize; 2]| size.iter().all(|extent| *extent <= TILE_MAX);
    size.ok().filter(fits).ok_or_else(|| {
        format!("expected a number of latents from 1 to {TILE_MAX}, or two such as 64x48")
    })
}

/// A share of at least 0 and below 1.
fn overlap(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("expected a number of at least 0 and below 1".to_owned()),
    }
}
