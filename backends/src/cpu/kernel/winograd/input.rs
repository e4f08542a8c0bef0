//! The transform of an image's tiles into left operands, riding on their packing.
#![allow(
    unsafe_code,
    reason = "taps are loaded by pointers, checked once per call, into memory not yet written"
)]

use std::mem::MaybeUninit;

use pulp::Simd;

use super::{Four, PLANES_MOST, Points, Scheme, TILE_MOST, Taps, Two};
use crate::cpu::kernel::machine::{Kernel, Machine};
use crate::cpu::kernel::pack::{ZEROS, store};
use crate::cpu::kernel::transpose::LANES_MOST;
use crate::cpu::kernel::wide::Wide;

/// The most tiles of a panel, that is rows of the highest register tile.
const ROWS_MOST: usize = 16;

/// `out[plane · plane_stride + k · height + i] = (Bᵀ dᵢ B)[plane]` of channel `k`, for
/// `[height, depth]` of `i` and `k`: left panels of the matrix products. Tiles that are missing up
/// to `height` are 0.
///
/// # Panics
/// When there are more tiles than `height`, `height` exceeds [`Machine::rows`], a tap is not
/// `depth` long, or `out` is too short: callers computed them.
pub(crate) fn input(
    machine: Machine,
    points: Points,
    tiles: &[Taps<'_>],
    [height, depth]: [usize; 2],
    out: &mut [f32],
    plane_stride: usize,
) {
    if height == 0 || depth == 0 {
        return;
    }
    assert!(
        tiles.len() <= height && height <= machine.rows(),
        "the panel is too low or too high"
    );
    let mut runs = tiles
        .iter()
        .flat_map(|taps| &taps[..points.planes()])
        .flatten();
    assert!(
        runs.all(|run| run.len() == depth),
        "the taps are not {depth} long"
    );
    machine.run(Input {
        points,
        tiles,
        height,
        depth,
        out,
        plane_stride,
    });
}

struct Input<'a> {
    points: Points,
    tiles: &'a [Taps<'a>],
    height: usize,
    depth: usize,
    out: &'a mut [f32],
    plane_stride: usize,
}

/// The most tiles that are transformed together: a first cache holds their planes.
const GROUP_MOST: usize = 8;

/// Transformed vectors of a group of tiles, `[plane][tile][lane]`.
type Scratch = MaybeUninit<[[[f32; LANES_MOST]; GROUP_MOST]; PLANES_MOST]>;

impl Kernel for Input<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        match self.points {
            Points::Two => self.transform::<W, Two>(wide),
            Points::Four => self.transform::<W, Four>(wide),
        }
    }
}

impl Input<'_> {
    #[inline(always)]
    fn transform<W: Wide, P: Scheme>(self, wide: W) {
        const { assert!(W::ROWS <= ROWS_MOST && W::F32_LANES <= LANES_MOST) };
        const { assert!(W::Narrow::F32_LANES <= GROUP_MOST) };
        let (lanes, narrow) = (W::F32_LANES, W::Narrow::F32_LANES);
        let steps = lanes.min(self.depth);
        let mut scratch: Scratch = MaybeUninit::uninit();
        let scratch = scratch.as_mut_ptr().cast::<f32>();
        let mut bases = [None; ROWS_MOST];
        for (base, taps) in bases.iter_mut().zip(self.tiles) {
            *base = inner(&taps[..P::TILE * P::TILE]);
        }
        for k in (0..self.depth).step_by(lanes) {
            // The last block overlaps the one before rather than being short.
            let k = k.min(self.depth - steps);
            for first in (0..self.height).step_by(narrow).rev() {
                let tiles = self.tiles.get(first..).unwrap_or_default();
                for (tile, taps) in tiles.iter().enumerate().take(narrow) {
                    let to = scratch.wrapping_add(tile * lanes);
                    // SAFETY: all taps are `depth` long, and the scratch holds a vector for each
                    // of `GROUP_MOST` tiles of every plane.
                    unsafe { forward::<W, P>(wide, taps, &bases[first + tile], [k, steps], to) };
                }
                let count = tiles.len().min(narrow);
                for plane in 0..P::TILE * P::TILE {
                    let place = plane * self.plane_stride;
                    let panel = &mut self.out[place..][..self.depth * self.height];
                    let group = scratch.wrapping_add(plane * GROUP_MOST * lanes);
                    let place = [first, self.height];
                    // SAFETY: the vectors of `count` tiles were written above.
                    unsafe { turn(wide, group, count, panel, place, [k, steps]) };
                }
            }
        }
    }
}

/// Transposes the `steps` channels of `count` tiles of a plane into the panel, whose `height` is
/// given, from tile `first`; missing tiles of the group are 0.
///
/// # Safety
/// `group` is valid for a vector of each of `count` tiles.
// SAFETY: the caller's promise.
#[inline(always)]
unsafe fn turn<W: Wide>(
    wide: W,
    group: *const f32,
    count: usize,
    panel: &mut [f32],
    [first, height]: [usize; 2],
    [k, steps]: [usize; 2],
) {
    let (narrow, lanes) = (wide.narrow(), W::Narrow::F32_LANES);
    for channel in (0..steps).step_by(lanes) {
        let mut vectors = [narrow.splat_f32s(0.0); LANES_MOST];
        for (tile, vector) in vectors.iter_mut().enumerate().take(lanes) {
            if tile < count {
                let place = tile * W::F32_LANES + channel;
                // SAFETY: the caller's promise.
                *vector = unsafe { narrow.load(group.wrapping_add(place)) };
            }
        }
        let vectors = narrow.transpose(vectors);
        let (left, some) = ((steps - channel).min(lanes), (height - first).min(lanes));
        store(
            narrow,
            vectors,
            panel,
            [first, some],
            [k + channel, left],
            height,
        );
    }
}

/// The first channels of the taps of a tile, if it lies in the image whole.
fn inner(taps: &[Option<&[f32]>]) -> Option<[*const f32; PLANES_MOST]> {
    let mut bases = [ZEROS.as_ptr(); PLANES_MOST];
    for (base, tap) in bases.iter_mut().zip(taps) {
        *base = tap.as_ref()?.as_ptr();
    }
    Some(bases)
}

/// Transforms `steps` channels of a tile from channel `k`; writes a vector per plane, each
/// `GROUP_MOST` vectors behind the one before. `bases` are those of [`inner`].
///
/// # Safety
/// Every tap has `k + steps` channels, and `to` is valid for these vectors.
// SAFETY: the caller's promise; what is shorter than a vector is copied.
#[inline(always)]
unsafe fn forward<W: Wide, P: Scheme>(
    wide: W,
    taps: &Taps<'_>,
    bases: &Option<[*const f32; PLANES_MOST]>,
    [k, steps]: [usize; 2],
    to: *mut f32,
) {
    let short;
    let mut border;
    let (sources, offset) = match bases {
        _ if steps < W::F32_LANES => {
            short = padded(taps, k);
            border = [ZEROS.as_ptr(); PLANES_MOST];
            for (source, values) in border.iter_mut().zip(&short) {
                *source = values.as_ptr();
            }
            (&border, 0)
        }
        Some(bases) => (bases, k),
        None => {
            border = [ZEROS.as_ptr(); PLANES_MOST];
            for (source, tap) in border.iter_mut().zip(taps) {
                if let Some(run) = tap {
                    *source = run.as_ptr().wrapping_add(k);
                }
            }
            (&border, 0)
        }
    };
    let zero = wide.splat_f32s(0.0);
    let mut lines = [[zero; TILE_MOST]; TILE_MOST];
    for column in 0..P::TILE {
        let mut d = [zero; TILE_MOST];
        for (row, value) in d.iter_mut().enumerate() {
            if row < P::TILE {
                // SAFETY: the caller's promise, or an array as long as the largest vector.
                *value = unsafe { wide.load(sources[row * P::TILE + column].wrapping_add(offset)) };
            }
        }
        let d = P::forward(wide, d);
        for (line, value) in lines.iter_mut().zip(d) {
            line[column] = value;
        }
    }
    for (row, line) in lines.iter().enumerate() {
        if row < P::TILE {
            let values = P::forward(wide, *line);
            for (column, &value) in values.iter().enumerate() {
                if column < P::TILE {
                    let place = (row * P::TILE + column) * GROUP_MOST * W::F32_LANES;
                    // SAFETY: the caller's promise.
                    unsafe { wide.store(to.wrapping_add(place), value) };
                }
            }
        }
    }
}

/// The taps from channel `k`, fewer than a vector holds, with zeros behind.
#[cold]
fn padded(taps: &Taps<'_>, k: usize) -> [[f32; LANES_MOST]; PLANES_MOST] {
    let mut short = [ZEROS; PLANES_MOST];
    for (values, tap) in short.iter_mut().zip(taps) {
        let rest = tap.map_or(&[][..], |run| run.get(k..).unwrap_or_default());
        let count = rest.len().min(LANES_MOST);
        values[..count].copy_from_slice(&rest[..count]);
    }
    short
}
