//! The transform of the sums of products into pixels.
#![allow(
    unsafe_code,
    reason = "planes are loaded by pointers, checked once per call"
)]

use super::{Four, PLANES_MOST, Points, Scheme, TILE_MOST, Two};
use crate::cpu::kernel::machine::{Kernel, Machine};
use crate::cpu::kernel::transpose::LANES_MOST;
use crate::cpu::kernel::wide::Wide;

/// `y[pixel · y_stride + column] = (Aᵀ m A)[pixel]` for the pixels of one tile, row by row, where
/// `m` of a plane and column is at `m[plane · plane_stride + column]`; where `taps`, the nine
/// `(Gᵀ m G)[pixel]` of the gradient of a filter.
///
/// # Panics
/// When `m` or `y` is too short: callers computed them.
pub(crate) fn output(
    machine: Machine,
    points: Points,
    (m, plane_stride): (&[f32], usize),
    columns: usize,
    (y, y_stride): (&mut [f32], usize),
    taps: bool,
) {
    let ends = |count: usize, stride: usize| {
        let last = (count - 1).checked_mul(stride);
        last.and_then(|last| last.checked_add(columns))
    };
    let side = if taps { 3 } else { points.pixels() };
    let (planes, pixels) = (points.planes(), side * side);
    let fits = |end: Option<usize>, len: usize| end.is_some_and(|end| end <= len);
    assert!(
        fits(ends(planes, plane_stride), m.len()),
        "planes are too short"
    );
    assert!(
        fits(ends(pixels, y_stride), y.len()),
        "pixels are too short"
    );
    machine.run(Output {
        points,
        m,
        plane_stride,
        columns,
        y,
        y_stride,
        taps,
    });
}

struct Output<'a> {
    points: Points,
    m: &'a [f32],
    plane_stride: usize,
    columns: usize,
    y: &'a mut [f32],
    y_stride: usize,
    taps: bool,
}

/// Lines of results: the taps of a filter, or pixels.
#[inline(always)]
fn pixels<P: Scheme>(taps: bool) -> usize {
    match taps {
        true => 3,
        false => P::TILE - 2,
    }
}

#[inline(always)]
fn back<W: Wide, P: Scheme>(wide: W, taps: bool, m: [W::f32s; TILE_MOST]) -> [W::f32s; TILE_MOST] {
    match taps {
        true => P::gather(wide, m),
        false => P::backward(wide, m),
    }
}

impl Kernel for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(mut self, wide: W) {
        match self.points {
            Points::Two => self.transform::<W, Two>(wide),
            Points::Four => self.transform::<W, Four>(wide),
        }
    }
}

impl Output<'_> {
    #[inline(always)]
    fn transform<W: Wide, P: Scheme>(&mut self, wide: W) {
        let lanes = W::F32_LANES;
        let whole = self.columns / lanes * lanes;
        for column in (0..whole).step_by(lanes) {
            self.block::<W, P>(wide, column);
        }
        if whole == self.columns {
            return;
        }
        if self.columns > lanes {
            // The last block overlaps the one before rather than being short.
            self.block::<W, P>(wide, self.columns - lanes);
        } else {
            self.narrow::<W, P>(wide);
        }
    }

    /// A vector of columns, all of which exist.
    #[inline(always)]
    fn block<W: Wide, P: Scheme>(&mut self, wide: W, column: usize) {
        let zero = wide.splat_f32s(0.0);
        let mut lines = [[zero; TILE_MOST]; TILE_MOST];
        for j in 0..P::TILE {
            let mut m = [zero; TILE_MOST];
            for (i, value) in m.iter_mut().enumerate() {
                if i < P::TILE {
                    let place = (i * P::TILE + j) * self.plane_stride + column;
                    // SAFETY: every plane holds all columns.
                    *value = unsafe { wide.load(self.m.as_ptr().wrapping_add(place)) };
                }
            }
            let m = back::<W, P>(wide, self.taps, m);
            for (line, value) in lines.iter_mut().zip(m) {
                line[j] = value;
            }
        }
        let pixels = pixels::<P>(self.taps);
        for (i, line) in lines.iter().enumerate() {
            if i < pixels {
                let values = back::<W, P>(wide, self.taps, *line);
                for (j, &value) in values.iter().enumerate() {
                    if j < pixels {
                        let place = (i * pixels + j) * self.y_stride + column;
                        // SAFETY: every pixel holds all columns.
                        unsafe { wide.store(self.y.as_mut_ptr().wrapping_add(place), value) };
                    }
                }
            }
        }
    }

    /// Fewer columns than a vector holds, by way of copies.
    #[inline(always)]
    fn narrow<W: Wide, P: Scheme>(&mut self, wide: W) {
        let columns = self.columns;
        let mut m = [0.0; PLANES_MOST * LANES_MOST];
        let mut y = [0.0; PLANES_MOST * LANES_MOST];
        for (plane, values) in m
            .chunks_exact_mut(LANES_MOST)
            .enumerate()
            .take(P::TILE * P::TILE)
        {
            let place = plane * self.plane_stride;
            values[..columns].copy_from_slice(&self.m[place..][..columns]);
        }
        let mut copy = Output {
            points: self.points,
            m: &m,
            plane_stride: LANES_MOST,
            columns: LANES_MOST,
            y: &mut y,
            y_stride: LANES_MOST,
            taps: self.taps,
        };
        copy.block::<W, P>(wide, 0);
        let pixels = pixels::<P>(self.taps).pow(2);
        for (pixel, values) in y.chunks_exact(LANES_MOST).enumerate().take(pixels) {
            let place = pixel * self.y_stride;
            self.y[place..][..columns].copy_from_slice(&values[..columns]);
        }
    }
}
