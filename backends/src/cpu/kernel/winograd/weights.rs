//! The transform of filters: once when weights are packed, or before each launch where they change.
#![allow(
    unsafe_code,
    reason = "filters are addressed by pointers, checked once per call"
)]

use super::arithmetic::{Arithmetic, Double, Single};
use super::{Four, PLANES_MOST, Points, Scheme, TILE_MOST, Two};
use crate::cpu::kernel::machine::{Kernel, Machine};
use crate::cpu::kernel::wide::Wide;

/// The precision of the transform; what it gives is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// f32, for filters that change from launch to launch.
    Single,
    /// f64, for filters that are transformed once.
    Double,
}

/// Filters side by side: element `(c, m, j)` of channel `c`, tap `m` of the memory and filter `j`
/// is at `c · channel_stride + m · tap_stride + j`, and tap `m` of the memory is `order[m]` of the
/// filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters<'a> {
    pub(crate) taps: &'a [f32],
    pub(crate) channels: usize,
    pub(crate) channel_stride: usize,
    pub(crate) tap_stride: usize,
    pub(crate) order: [usize; 9],
}

/// The panels of filters that lie side by side, as many as [`Machine::columns`]:
/// `out[plane][c · width + j] = (G g Gᵀ)[plane]` for every channel `c` and filter `j`.
///
/// # Panics
/// When `out` has not one slice of `channels · width` values for each plane, or there are fewer
/// taps than the strides say: callers computed them.
pub(crate) fn transform(
    machine: Machine,
    (points, precision): (Points, Precision),
    filters: Filters<'_>,
    out: &mut [&mut [f32]],
) {
    let (width, channels) = (machine.columns(), filters.channels);
    if channels == 0 {
        return;
    }
    let last = (channels - 1) * filters.channel_stride + 8 * filters.tap_stride;
    assert!(
        last + width <= filters.taps.len(),
        "the filters are too short"
    );
    assert!(out.len() == points.planes(), "every plane has its panel");
    assert!(
        out.iter().all(|plane| channels * width <= plane.len()),
        "the panels are too short"
    );
    let mut places = [0; 9];
    for (place, tap) in filters.order.into_iter().enumerate() {
        places[tap] = place * filters.tap_stride;
    }
    let mut planes = [std::ptr::null_mut(); PLANES_MOST];
    for (plane, out) in planes.iter_mut().zip(out) {
        *plane = out.as_mut_ptr();
    }
    machine.run(Transform {
        points,
        precision,
        filters,
        places,
        planes,
    });
}

struct Transform<'a> {
    points: Points,
    precision: Precision,
    filters: Filters<'a>,
    /// Where each tap of a channel is.
    places: [usize; 9],
    planes: [*mut f32; PLANES_MOST],
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let width = W::VECTORS * W::F32_LANES;
        match (self.points, self.precision) {
            (Points::Two, Precision::Single) => self.all::<_, Two>(Single(wide), width),
            (Points::Four, Precision::Single) => self.all::<_, Four>(Single(wide), width),
            (Points::Two, Precision::Double) => self.all::<_, Two>(Double(wide), width),
            (Points::Four, Precision::Double) => self.all::<_, Four>(Double(wide), width),
        }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn all<N: Arithmetic, P: Scheme>(self, numbers: N, width: usize) {
        let zero = numbers.zero();
        for at in (0..self.filters.channels * width).step_by(N::LANES) {
            let (channel, lane) = (at / width, at % width);
            let taps = self.filters.taps.as_ptr();
            let taps = taps.wrapping_add(channel * self.filters.channel_stride + lane);
            let mut g = [zero; 9];
            for (value, place) in g.iter_mut().zip(self.places) {
                // SAFETY: a vector of each tap of a channel lies within the filters, see
                // `transform`.
                *value = unsafe { numbers.load(taps.wrapping_add(place)) };
            }
            // Loops, not closures: what is not inlined knows no vectors.
            let mut rows = [[zero; TILE_MOST]; 3];
            for (row, values) in rows.iter_mut().enumerate() {
                *values = P::filters(numbers, [g[3 * row], g[3 * row + 1], g[3 * row + 2]]);
            }
            for column in 0..P::TILE {
                let [first, second, third] = &rows;
                let lines = P::filters(numbers, [first[column], second[column], third[column]]);
                for (row, &line) in lines.iter().enumerate() {
                    if row < P::TILE {
                        let plane = self.planes[row * P::TILE + column];
                        // SAFETY: every plane holds `width` values of each channel.
                        unsafe { numbers.store(plane.wrapping_add(at), line) };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::testing::normals;

    #[test]
    fn both_precisions_and_all_orders_agree() {
        for machine in Machine::available() {
            for points in [Points::Two, Points::Four] {
                let (width, channels, planes) = (machine.columns(), 5, points.planes());
                let taps = normals(9 * channels * width, 8);
                let transformed = |precision: Precision, filters: Filters<'_>| {
                    let mut data = vec![f32::NAN; planes * channels * width];
                    let mut out: Vec<&mut [f32]> = data.chunks_mut(channels * width).collect();
                    transform(machine, (points, precision), filters, &mut out);
                    data
                };
                let wanted = Filters {
                    taps: &taps,
                    channels,
                    channel_stride: 9 * width,
                    tap_stride: width,
                    order: std::array::from_fn(|place| place),
                };
                // The same filters tap by tap, the last tap first.
                let mut turned = vec![f32::NAN; taps.len()];
                for (at, &value) in taps.iter().enumerate() {
                    let (channel, tap, lane) = (at / width / 9, at / width % 9, at % width);
                    turned[((8 - tap) * channels + channel) * width + lane] = value;
                }
                let other = Filters {
                    taps: &turned,
                    channel_stride: width,
                    tap_stride: channels * width,
                    order: std::array::from_fn(|place| 8 - place),
                    ..wanted
                };
                let wanted = transformed(Precision::Double, wanted);
                assert_eq!(transformed(Precision::Double, other), wanted);
                for (found, wanted) in transformed(Precision::Single, other).iter().zip(&wanted) {
                    let case = format!("{} {points:?}", machine.name());
                    assert!((found - wanted).abs() < 3e-6, "{case}: {found}, {wanted}");
                }
            }
        }
    }
}
