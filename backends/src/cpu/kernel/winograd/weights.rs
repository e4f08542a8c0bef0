//! The transform of filters: once when weights are packed, or before each launch where they change.
#![allow(
    unsafe_code,
    reason = "filters are addressed by pointers, checked once per call"
)]

use super::{Four, PLANES_MOST, Points, Scheme, TILE_MOST, Two};
use crate::cpu::kernel::machine::{Kernel, Machine};
use crate::cpu::kernel::wide::Wide;

/// The panels of filters that lie side by side: `out[plane][c · width + j] = (G g Gᵀ)[plane]` for
/// every channel `c` of `taps`, in which element `(c, m, j)` is at `(9 · c + m) · width + j` and tap
/// `m` of the memory is `order[m]` of the filter; `width` is [`Machine::columns`]. In f32.
///
/// # Panics
/// When `out` has not one slice of `channels · width` values for each plane, or `taps` is too short:
/// callers computed them.
pub(crate) fn filters(
    machine: Machine,
    points: Points,
    taps: &[f32],
    order: [usize; 9],
    channels: usize,
    out: &mut [&mut [f32]],
) {
    let width = machine.columns();
    assert!(
        channels * 9 * width <= taps.len(),
        "the filters are too short"
    );
    assert!(out.len() == points.planes(), "every plane has its panel");
    assert!(
        out.iter().all(|plane| channels * width <= plane.len()),
        "the panels are too short"
    );
    let mut places = [0; 9];
    for (place, tap) in order.into_iter().enumerate() {
        places[tap] = place;
    }
    let mut planes = [std::ptr::null_mut(); PLANES_MOST];
    for (plane, out) in planes.iter_mut().zip(out) {
        *plane = out.as_mut_ptr();
    }
    machine.run(Filters {
        points,
        taps,
        places,
        channels,
        planes,
    });
}

struct Filters<'a> {
    points: Points,
    taps: &'a [f32],
    /// Where each tap of the filter is.
    places: [usize; 9],
    channels: usize,
    planes: [*mut f32; PLANES_MOST],
}

impl Kernel for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        match self.points {
            Points::Two => self.transform::<W, Two>(wide),
            Points::Four => self.transform::<W, Four>(wide),
        }
    }
}

impl Filters<'_> {
    #[inline(always)]
    fn transform<W: Wide, P: Scheme>(self, wide: W) {
        let width = W::VECTORS * W::F32_LANES;
        let zero = wide.splat_f32s(0.0);
        for at in (0..self.channels * width).step_by(W::F32_LANES) {
            let (channel, lane) = (at / width, at % width);
            let taps = self.taps.as_ptr().wrapping_add(9 * width * channel + lane);
            let mut g = [zero; 9];
            for (value, place) in g.iter_mut().zip(self.places) {
                // SAFETY: a vector of each tap of a channel lies within the filters, see `filters`.
                *value = unsafe { wide.load(taps.wrapping_add(place * width)) };
            }
            // Loops, not closures: what is not inlined knows no vectors.
            let mut rows = [[zero; TILE_MOST]; 3];
            for (row, values) in rows.iter_mut().enumerate() {
                *values = P::filters(wide, [g[3 * row], g[3 * row + 1], g[3 * row + 2]]);
            }
            for column in 0..P::TILE {
                let [first, second, third] = &rows;
                let lines = P::filters(wide, [first[column], second[column], third[column]]);
                for (row, &line) in lines.iter().enumerate() {
                    if row < P::TILE {
                        let plane = self.planes[row * P::TILE + column];
                        // SAFETY: every plane holds `width` values of each channel.
                        unsafe { wide.store(plane.wrapping_add(at), line) };
                    }
                }
            }
        }
    }
}

/// `out[plane · plane_stride + c] = (G g Gᵀ)[plane]` for every channel `c` of the nine `taps` of a
/// filter, row by row; computed in f64.
///
/// # Panics
/// When taps differ in length or `out` is too short: callers computed them.
pub(crate) fn weights(points: Points, taps: [&[f32]; 9], out: &mut [f32], plane_stride: usize) {
    match points {
        Points::Two => transform::<Two>(taps, out, plane_stride),
        Points::Four => transform::<Four>(taps, out, plane_stride),
    }
}

fn transform<P: Scheme>(taps: [&[f32]; 9], out: &mut [f32], plane_stride: usize) {
    let channels = taps[0].len();
    assert!(
        taps.iter().all(|tap| tap.len() == channels),
        "taps differ in length"
    );
    for c in 0..channels {
        let g = taps.map(|tap| f64::from(tap[c]));
        let rows = [0, 3, 6].map(|row| P::filter([g[row], g[row + 1], g[row + 2]]));
        for column in 0..P::TILE {
            let lines = P::filter(rows.map(|row| row[column]));
            for (row, &value) in lines.iter().enumerate().take(P::TILE) {
                out[(row * P::TILE + column) * plane_stride + c] = value as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::testing::normals;

    #[test]
    fn filters_side_by_side_are_those_one_by_one() {
        for machine in Machine::available() {
            for points in [Points::Two, Points::Four] {
                let (width, channels, planes) = (machine.columns(), 5, points.planes());
                let taps = normals(9 * channels * width, 8);
                // The kernel turned around.
                let order = std::array::from_fn(|place| 8 - place);
                let mut data = vec![f32::NAN; planes * channels * width];
                let mut out: Vec<&mut [f32]> = data.chunks_mut(channels * width).collect();
                filters(machine, points, &taps, order, channels, &mut out);
                for j in 0..width {
                    let tap = |c: usize, tap: usize| taps[(9 * c + 8 - tap) * width + j];
                    let runs: [Vec<f32>; 9] =
                        std::array::from_fn(|t| (0..channels).map(|c| tap(c, t)).collect());
                    let mut wanted = vec![f32::NAN; planes * channels];
                    weights(
                        points,
                        runs.each_ref().map(Vec::as_slice),
                        &mut wanted,
                        channels,
                    );
                    for (at, wanted) in wanted.iter().enumerate() {
                        let found = data[at * width + j];
                        let case = format!("{} {points:?} {at}", machine.name());
                        assert!((found - wanted).abs() < 3e-6, "{case}: {found}, {wanted}");
                    }
                }
            }
        }
    }
}
