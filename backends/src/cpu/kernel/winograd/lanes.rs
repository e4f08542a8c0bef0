//! Tiles along the depth: the transforms under which channels stay side by side, for the gradient
//! of filters, whose products sum over tiles.
#![allow(
    unsafe_code,
    reason = "taps are loaded by pointers, checked once per tile"
)]

use pulp::Simd;

use super::{Four, PLANES_MOST, Points, Scheme, TILE_MOST, Taps, Two};
use crate::cpu::kernel::machine::{Kernel, Machine};
use crate::cpu::kernel::pack::ZEROS;
use crate::cpu::kernel::transpose::LANES_MOST;
use crate::cpu::kernel::wide::Wide;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Pixels of the image: `Bᵀ d B`.
    Image,
    /// The gradient of pixels that the convolution gave, two fewer each way: `A y Aᵀ`.
    Gradient,
}

/// `out[plane · plane_stride + j / height · panel_stride + j % height]` becomes the point `plane`
/// of channel `j` of a tile, for `[count, height]` channels and those of a panel.
///
/// # Panics
/// When a tap has not `count` channels or `out` is too short: callers computed them.
pub(crate) fn lanes(
    machine: Machine,
    (points, side): (Points, Side),
    taps: &Taps<'_>,
    [count, height]: [usize; 2],
    out: &mut [f32],
    [panel_stride, plane_stride]: [usize; 2],
) {
    if count == 0 || height == 0 {
        return;
    }
    let mut runs = taps.iter().flatten();
    assert!(
        runs.all(|run| run.len() == count),
        "the taps are not {count} long"
    );
    let whole = (count - 1) / height;
    let ends = [
        whole * panel_stride + count - whole * height,
        whole.saturating_sub(1) * panel_stride + height.min(count),
    ];
    let end = (points.planes() - 1) * plane_stride + ends[0].max(ends[1]);
    assert!(end <= out.len(), "the panels are too short");
    machine.run(Lanes {
        points,
        side,
        taps,
        sizes: [count, height],
        out,
        strides: [panel_stride, plane_stride],
    });
}

struct Lanes<'a> {
    points: Points,
    side: Side,
    taps: &'a Taps<'a>,
    sizes: [usize; 2],
    out: &'a mut [f32],
    strides: [usize; 2],
}

/// Where the taps of a tile begin, and whether they go on: those outside of the image are zeros.
type Sources = [(*const f32, usize); PLANES_MOST];

impl Kernel for Lanes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        match self.points {
            Points::Two => self.transform::<W, Two>(wide),
            Points::Four => self.transform::<W, Four>(wide),
        }
    }
}

impl Lanes<'_> {
    #[inline(always)]
    fn transform<W: Wide, P: Scheme>(self, wide: W) {
        let ([count, height], [panel_stride, plane_stride]) = (self.sizes, self.strides);
        let mut sources: Sources = [(ZEROS.as_ptr(), 0); PLANES_MOST];
        for (source, tap) in sources.iter_mut().zip(self.taps) {
            if let Some(run) = tap {
                *source = (run.as_ptr(), usize::MAX);
            }
        }
        let out = self.out.as_mut_ptr();
        for (panel, first) in (0..count).step_by(height).enumerate() {
            let width = height.min(count - first);
            let out = out.wrapping_add(panel * panel_stride);
            let narrow = W::Narrow::F32_LANES;
            if width % W::F32_LANES == 0 {
                for j in (0..width).step_by(W::F32_LANES) {
                    let to = (out.wrapping_add(j), plane_stride);
                    // SAFETY: `width` channels from `first` are in every tap and in the panel.
                    unsafe { points::<W, P>(wide, self.side, &sources, first + j, to) };
                }
            } else if width >= narrow {
                for j in (0..width).step_by(narrow) {
                    // The last vector overlaps the one before rather than being short.
                    let j = j.min(width - narrow);
                    let to = (out.wrapping_add(j), plane_stride);
                    // SAFETY: as above.
                    unsafe {
                        points::<W::Narrow, P>(wide.narrow(), self.side, &sources, first + j, to);
                    }
                }
            } else {
                let made = self.short::<W, P>(wide, first, width);
                for (plane, values) in made.iter().enumerate().take(P::TILE * P::TILE) {
                    let place = panel * panel_stride + plane * plane_stride;
                    self.out[place..place + width].copy_from_slice(&values[..width]);
                }
            }
        }
    }

    /// The points of fewer channels than a vector holds.
    #[inline(always)]
    fn short<W: Wide, P: Scheme>(
        &self,
        wide: W,
        first: usize,
        width: usize,
    ) -> [[f32; LANES_MOST]; PLANES_MOST] {
        let mut near = [ZEROS; PLANES_MOST];
        let mut sources: Sources = [(ZEROS.as_ptr(), 0); PLANES_MOST];
        for ((near, source), tap) in near.iter_mut().zip(&mut sources).zip(self.taps) {
            if let Some(run) = tap {
                near[..width].copy_from_slice(&run[first..first + width]);
                *source = (near.as_ptr(), usize::MAX);
            }
        }
        let mut made = [ZEROS; PLANES_MOST];
        let to = (made.as_mut_ptr().cast::<f32>(), LANES_MOST);
        // SAFETY: arrays are as long as the largest vector.
        unsafe { points::<W, P>(wide, self.side, &sources, 0, to) };
        made
    }
}

/// The points of a vector of channels from `at` on, each plane so far from the one before.
///
/// # Safety
/// Every source that goes on has a vector at `at`, and `out` is valid for one in each plane.
// SAFETY: the caller's promise.
#[inline(always)]
unsafe fn points<W: Wide, P: Scheme>(
    wide: W,
    side: Side,
    sources: &Sources,
    at: usize,
    (out, plane_stride): (*mut f32, usize),
) {
    let zero = wide.splat_f32s(0.0);
    let size = match side {
        Side::Image => P::TILE,
        Side::Gradient => P::TILE - 2,
    };
    let mut lines = [[zero; TILE_MOST]; TILE_MOST];
    for column in 0..size {
        let mut d = [zero; TILE_MOST];
        for (row, value) in d.iter_mut().enumerate().take(size) {
            let (source, moves) = sources[row * size + column];
            // SAFETY: the caller's promise; zeros, which do not move, are as long as any vector.
            *value = unsafe { wide.load(source.wrapping_add(at & moves)) };
        }
        let d = line::<W, P>(wide, side, d);
        for (line, value) in lines.iter_mut().zip(d) {
            line[column] = value;
        }
    }
    for (row, values) in lines.iter().enumerate().take(P::TILE) {
        let values = line::<W, P>(wide, side, *values);
        for (column, &value) in values.iter().enumerate().take(P::TILE) {
            let place = (row * P::TILE + column) * plane_stride;
            // SAFETY: the caller's promise.
            unsafe { wide.store(out.wrapping_add(place), value) };
        }
    }
}

#[inline(always)]
fn line<W: Wide, P: Scheme>(
    wide: W,
    side: Side,
    values: [W::f32s; TILE_MOST],
) -> [W::f32s; TILE_MOST] {
    match side {
        Side::Image => P::forward(wide, values),
        Side::Gradient => P::spread(wide, values),
    }
}
