//! Decoding in tiles: pictures for which one call of the decoder would need too much.
//!
//! Takes latents and a decoder of one fixed tile, gives the picture in which overlapping tiles fade
//! into one another. It chooses no size and calls no device: its caller does.
//!
//! Along an axis of `E` latents, tiles of `t` that overlap by `o` begin at
//! `s_i = min(i·(t − o), E − t)`: the last one is moved inwards, so that all have one shape. With
//! `f` pixels per latent a tile has `T = f·t` pixels from `S_i = f·s_i` on, of which it shares
//! `p_i = S_{i−1} + T − S_i` with the tile before it. Its weight at its pixel `j` rises and falls
//! linearly over what it shares,
//!
//! ```text
//! r_i(j) = min(1, (j + 1/2) / p_i, (T − j − 1/2) / p_{i+1})    without the terms at the picture's ends
//! w_i(x) = r_i(x − S_i) / Σ_k r_k(x − S_k)                     over the tiles k that show x
//! ```
//! and the picture is `Σ_i Σ_k w_i(y) · w_k(x) · tile_ik(y − S_i, x − S_k)`. Where two tiles overlap
//! the sum below is 1 already; dividing by it makes any overlap do. Each tile is decoded by itself,
//! so its norms and its attention see less than those of the whole picture: tones may differ a little
//! from tile to tile. `AutoencoderKL.tiled_decode` of diffusers cuts and fades likewise, but lets
//! tiles at the far ends be smaller and blends neighbours one after another.

use thiserror::Error;

use crate::pipeline::error::SamplingError;

/// Tiles of one shape that cover pictures, in latents: rows, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    tile: [usize; 2],
    overlap: [usize; 2],
}

/// Why there is no such tiling.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("found tiles of {tile:?} latents that overlap by {overlap:?}, wanted a smaller overlap")]
pub struct TilingError {
    /// Rows and columns of a tile.
    pub tile: [usize; 2],
    /// Rows and columns that neighbours share.
    pub overlap: [usize; 2],
}

/// Planes of pixels or latents: images and channels, rows, columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planes {
    /// How many planes, and the extents of each.
    pub(crate) extents: [usize; 3],
    /// The elements.
    pub(crate) values: Vec<f32>,
}

impl Tiling {
    /// Tiles of `tile` rows and columns of latents, of which neighbours share `overlap`.
    ///
    /// # Errors
    /// When the overlap is not smaller than the tile.
    pub fn new(tile: [usize; 2], overlap: [usize; 2]) -> Result<Tiling, TilingError> {
        match overlap[0] < tile[0] && overlap[1] < tile[1] {
            true => Ok(Tiling { tile, overlap }),
            false => Err(TilingError { tile, overlap }),
        }
    }

    /// Rows and columns of a tile.
    pub fn tile(&self) -> [usize; 2] {
        self.tile
    }

    /// Rows and columns that neighbours share, at least.
    pub fn overlap(&self) -> [usize; 2] {
        self.overlap
    }

    /// Whether pictures of so many rows and columns of latents can be covered: none is smaller
    /// than a tile.
    pub fn fits(&self, latents: [usize; 2]) -> bool {
        self.tile[0] <= latents[0] && self.tile[1] <= latents[1]
    }

    /// How many tiles cover a picture that [fits](Tiling::fits).
    pub fn count(&self, latents: [usize; 2]) -> usize {
        let along = |axis: usize| {
            let (tile, stride) = (self.tile[axis], self.tile[axis] - self.overlap[axis]);
            1 + latents[axis].saturating_sub(tile).div_ceil(stride)
        };
        along(0).saturating_mul(along(1))
    }

    /// Where tiles begin along an axis.
    fn starts(&self, axis: usize, latents: usize) -> Vec<usize> {
        let (tile, stride) = (self.tile[axis], self.tile[axis] - self.overlap[axis]);
        let last = latents.saturating_sub(tile);
        let before = (0..last).step_by(stride);
        before.chain([last]).collect()
    }

    /// Decodes `latents` tile by tile. `decode` gives for each as many times more rows and columns
    /// as for any other.
    ///
    /// # Errors
    /// When `decode` fails, the latents do not [fit](Tiling::fits), or what is decoded has no whole
    /// number of pixels per latent.
    pub(crate) fn decode(
        &self,
        latents: &Planes,
        decode: &mut dyn FnMut(Planes) -> Result<Planes, SamplingError>,
    ) -> Result<Planes, SamplingError> {
        let [planes, rows, columns] = latents.extents;
        if !self.fits([rows, columns]) {
            return Err(SamplingError::Shape {
                what: "the picture that is decoded in tiles",
                found: vec![planes, rows, columns],
                wanted: vec![planes, self.tile[0], self.tile[1]],
            });
        }
        if self.tile == [rows, columns] {
            return decode(latents.clone());
        }
        let starts = [self.starts(0, rows), self.starts(1, columns)];
        let mut canvas: Option<Canvas> = None;
        for row in 0..starts[0].len() {
            for column in 0..starts[1].len() {
                let corner = [starts[0][row], starts[1][column]];
                let decoded = decode(latents.cut(corner, self.tile))?;
                let canvas = match &mut canvas {
                    Some(canvas) => canvas,
                    None => canvas.insert(Canvas::new(self, &starts, decoded.extents)?),
                };
                canvas.add([row, column], &decoded);
            }
        }
        let canvas = canvas.expect("at least one tile covers a picture");
        Ok(canvas.finish())
    }
}

impl Planes {
    /// The part of each plane that begins at `corner`.
    fn cut(&self, corner: [usize; 2], size: [usize; 2]) -> Planes {
        let [planes, rows, columns] = self.extents;
        let mut values = Vec::with_capacity(planes * size[0] * size[1]);
        for plane in 0..planes {
            for row in corner[0]..corner[0] + size[0] {
                let first = (plane * rows + row) * columns + corner[1];
                values.extend_from_slice(&self.values[first..first + size[1]]);
            }
        }
        Planes {
            extents: [planes, size[0], size[1]],
            values,
        }
    }
}

/// Along one axis: where each tile begins, and the normalised weights of its elements.
type Fade = Vec<(usize, Vec<f64>)>;

/// A picture while tiles are added to it.
struct Canvas {
    extents: [usize; 3],
    tile: [usize; 3],
    fades: [Fade; 2],
    sums: Vec<f64>,
}

impl Canvas {
    /// For tiles that begin at `starts` in latents and are decoded to `tile`.
    fn new(
        tiling: &Tiling,
        starts: &[Vec<usize>; 2],
        tile: [usize; 3],
    ) -> Result<Canvas, SamplingError> {
        let [planes, rows, columns] = tile;
        let scales = [rows / tiling.tile[0], columns / tiling.tile[1]];
        let whole = [
            planes,
            scales[0] * tiling.tile[0],
            scales[1] * tiling.tile[1],
        ];
        if tile != whole || scales.contains(&0) {
            return Err(SamplingError::Shape {
                what: "a decoded tile",
                found: tile.to_vec(),
                wanted: whole.to_vec(),
            });
        }
        let fades = [0, 1].map(|axis| {
            let pixels: Vec<usize> = starts[axis]
                .iter()
                .map(|start| start * scales[axis])
                .collect();
            fade(&pixels, tile[axis + 1])
        });
        let extent = |axis: usize| {
            fades[axis]
                .last()
                .map_or(0, |(start, _)| start + tile[axis + 1])
        };
        let extents = [planes, extent(0), extent(1)];
        Ok(Canvas {
            extents,
            tile,
            sums: vec![0.0; extents.iter().product()],
            fades,
        })
    }

    /// Adds the tile of that row and column.
    fn add(&mut self, [row, column]: [usize; 2], decoded: &Planes) {
        assert_eq!(
            decoded.extents, self.tile,
            "a decoder gives tiles of one size"
        );
        let [_, rows, columns] = self.extents;
        let (top, down) = &self.fades[0][row];
        let (left, across) = &self.fades[1][column];
        let lines = decoded.values.chunks_exact(across.len());
        for (number, line) in lines.enumerate() {
            let (plane, y) = (number / down.len(), number % down.len());
            let first = (plane * rows + top + y) * columns + left;
            let sums = &mut self.sums[first..first + across.len()];
            for ((sum, value), weight) in sums.iter_mut().zip(line).zip(across) {
                *sum += down[y] * weight * f64::from(*value);
            }
        }
    }

    fn finish(self) -> Planes {
        Planes {
            extents: self.extents,
            values: self.sums.into_iter().map(|sum| sum as f32).collect(),
        }
    }
}

/// The weights `w_i` of tiles of `extent` that begin at `starts`, in order.
fn fade(starts: &[usize], extent: usize) -> Fade {
    let shared = |number: usize| {
        let before = starts[number.checked_sub(1)?];
        let shared = (before + extent).checked_sub(*starts.get(number)?);
        shared.filter(|&shared| shared > 0)
    };
    let ramp = |number: usize| {
        let ends = [shared(number), shared(number + 1)];
        let weight = |j: usize| {
            let places = [j as f64 + 0.5, (extent - j) as f64 - 0.5];
            let terms = places.into_iter().zip(ends);
            let terms = terms.filter_map(|(place, shared)| Some(place / shared? as f64));
            terms.fold(1.0, f64::min)
        };
        (0..extent).map(weight).collect::<Vec<f64>>()
    };
    let ramps: Vec<Vec<f64>> = (0..starts.len()).map(ramp).collect();
    let mut sums = vec![0.0; starts.last().map_or(0, |last| last + extent)];
    for (start, ramp) in starts.iter().zip(&ramps) {
        let own = sums[*start..].iter_mut().zip(ramp);
        own.for_each(|(sum, weight)| *sum += weight);
    }
    let normalised = starts.iter().zip(ramps).map(|(&start, ramp)| {
        let weights = ramp
            .iter()
            .zip(&sums[start..])
            .map(|(weight, sum)| weight / sum);
        (start, weights.collect())
    });
    normalised.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latents without a pattern.
    fn latents(rows: usize, columns: usize) -> Planes {
        let value = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
        Planes {
            extents: [2, rows, columns],
            values: (0..2 * rows * columns).map(value).collect(),
        }
    }

    /// A decoder whose pixel is `value` of the latent that it lies in.
    fn decode(tile: &Planes, scale: usize, value: impl Fn(f32) -> f32) -> Planes {
        let [planes, rows, columns] = tile.extents;
        let mut values = Vec::new();
        for plane in 0..planes {
            for y in 0..rows * scale {
                for x in 0..columns * scale {
                    let latent = (plane * rows + y / scale) * columns + x / scale;
                    values.push(value(tile.values[latent]));
                }
            }
        }
        Planes {
            extents: [planes, rows * scale, columns * scale],
            values,
        }
    }

    #[test]
    fn tiles_of_one_shape_cover_the_picture() {
        type Case<'a> = (usize, usize, usize, &'a [usize]);
        let cases: [Case<'_>; 7] = [
            (64, 64, 16, &[0]),
            (65, 64, 16, &[0, 1]),
            (112, 64, 16, &[0, 48]),
            (128, 64, 16, &[0, 48, 64]),
            (7, 3, 0, &[0, 3, 4]),
            (5, 3, 2, &[0, 1, 2]),
            (2, 1, 0, &[0, 1]),
        ];
        for (extent, tile, overlap, wanted) in cases {
            let tiling = Tiling::new([tile, 1], [overlap, 0]).expect("a smaller overlap");
            assert_eq!(tiling.starts(0, extent), wanted, "{extent} by {tile}");
            assert_eq!(
                tiling.count([extent, 1]),
                wanted.len(),
                "{extent} by {tile}"
            );
        }
    }

    #[test]
    fn neighbours_fade_linearly_into_one_another() {
        let fades = fade(&[0, 4], 6);
        let rising = [0.25, 0.75, 1.0, 1.0, 1.0, 1.0];
        let falling: Vec<f64> = rising.into_iter().rev().collect();
        assert_eq!(fades, [(0, falling), (4, rising.to_vec())]);
    }

    #[test]
    fn weights_are_positive_and_sum_to_one() {
        for (extent, tile, overlap, scale) in
            [(24, 10, 2, 8), (24, 11, 9, 2), (9, 4, 3, 1), (9, 4, 0, 3)]
        {
            let tiling = Tiling::new([tile, 1], [overlap, 0]).expect("a smaller overlap");
            let starts = tiling.starts(0, extent);
            let pixels: Vec<usize> = starts.iter().map(|start| start * scale).collect();
            let mut sums = vec![0.0f64; extent * scale];
            for (start, weights) in fade(&pixels, tile * scale) {
                assert!(weights.iter().all(|&weight| weight > 0.0));
                let own = sums[start..].iter_mut().zip(&weights);
                own.for_each(|(sum, weight)| *sum += weight);
            }
            let error = sums
                .iter()
                .fold(0.0, |m, sum| f64::max(m, (sum - 1.0).abs()));
            assert!(error < 1e-15, "{extent} by {tile}: {error}");
        }
    }

    /// Runs a decoder without neighbourhood whole and in tiles.
    fn check(tile: [usize; 2], overlap: [usize; 2], scale: usize, value: impl Fn(f32) -> f32) {
        let latents = latents(9, 13);
        let tiling = Tiling::new(tile, overlap).expect("a smaller overlap");
        let mut calls = 0;
        let found = tiling.decode(&latents, &mut |tile_latents: Planes| {
            calls += 1;
            assert_eq!(tile_latents.extents, [2, tile[0], tile[1]]);
            Ok(decode(&tile_latents, scale, &value))
        });
        let place = format!("{tile:?} by {overlap:?}");
        assert_eq!(
            found.expect("the sizes fit"),
            decode(&latents, scale, &value),
            "{place}"
        );
        assert_eq!(calls, tiling.count([9, 13]), "{place}");
    }

    #[test]
    fn what_needs_no_neighbours_has_no_seams() {
        for (tile, overlap) in [
            ([9, 13], [2, 3]),
            ([5, 4], [1, 1]),
            ([4, 13], [3, 12]),
            ([2, 2], [0, 0]),
        ] {
            check(tile, overlap, 8, |_| 0.3);
            check(tile, overlap, 8, |x| x);
            check(tile, overlap, 3, |x| 0.1 - 2.0 * x);
        }
    }

    #[test]
    fn one_tile_over_all_changes_no_bit() {
        let tiling = Tiling::new([3, 3], [1, 1]).expect("a smaller overlap");
        let values = vec![
            -0.0,
            1e-40,
            f32::MAX,
            -1.5,
            0.0,
            f32::MIN_POSITIVE,
            7.0,
            0.1,
            f32::INFINITY,
        ];
        let latents = Planes {
            extents: [1, 3, 3],
            values,
        };
        let found = tiling.decode(&latents, &mut Ok).expect("the sizes fit");
        let bits = |planes: &Planes| {
            planes
                .values
                .iter()
                .map(|v| v.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&found), bits(&latents));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Tiling::new([4, 4], [4, 0]).is_err());
        assert!(Tiling::new([0, 4], [0, 0]).is_err());
        let tiling = Tiling::new([4, 4], [1, 1]).expect("a smaller overlap");
        assert!(tiling.decode(&latents(3, 9), &mut Ok).is_err());
        let odd = |_| Ok(latents(7, 8));
        assert!(tiling.decode(&latents(9, 9), &mut { odd }).is_err());
    }
}
