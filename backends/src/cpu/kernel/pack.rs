//! Packing: runs of values become a panel for the matrix product.
//!
//! Takes runs that lie anywhere, such as the pixels of an image or the rows of a weight, and writes
//! them side by side, one step of the depth after the other, by transposes in registers. It widens
//! nothing and knows no shapes.
#![allow(
    unsafe_code,
    reason = "blocks of runs are addressed by pointers, checked once per panel"
)]

use pulp::Simd;

use super::machine::{Kernel, Machine};
use super::transpose::LANES_MOST;
use super::wide::Wide;

/// `out[k · stride + i] = rows[i][k]` for `[height, depth]` of `i` and `k`; 0 where `rows[i]` is
/// none or missing. What lies between `height` and `stride` is undefined afterwards; what lies
/// behind `(depth − 1) · stride + height` is left alone.
///
/// # Panics
/// When there are more rows than `height`, that exceeds 64 or `stride`, a run is not `depth` long,
/// or `out` is too short: callers computed them.
pub(crate) fn panel(
    machine: Machine,
    out: &mut [f32],
    [height, depth]: [usize; 2],
    stride: usize,
    rows: &[Option<&[f32]>],
) {
    if height == 0 || depth == 0 {
        return;
    }
    assert!(
        rows.len() <= height && height <= stride && height <= ROWS_MOST,
        "the panel is too low or too high"
    );
    let runs = rows.iter().flatten();
    assert!(
        runs.copied().all(|run| run.len() == depth),
        "the runs are not {depth} long"
    );
    let end = (depth - 1)
        .checked_mul(stride)
        .and_then(|last| last.checked_add(height));
    let end = end.unwrap_or(usize::MAX);
    assert!(end <= out.len(), "the panel is too short");
    machine.run(Panel {
        out: &mut out[..end],
        height,
        depth,
        stride,
        rows,
    });
}

struct Panel<'a> {
    out: &'a mut [f32],
    height: usize,
    depth: usize,
    stride: usize,
    rows: &'a [Option<&'a [f32]>],
}

/// What a run that is not there reads.
pub(super) const ZEROS: [f32; LANES_MOST] = [0.0; LANES_MOST];

/// The most rows of a panel.
const ROWS_MOST: usize = 64;

impl Kernel for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        if self.depth < W::Narrow::F32_LANES {
            self.shallow();
        } else {
            match self.height {
                0..=LANES_MOST => self.transpose::<W::Narrow, LANES_MOST>(wide.narrow()),
                _ => self.transpose::<W::Narrow, ROWS_MOST>(wide.narrow()),
            }
        }
    }
}

impl Panel<'_> {
    /// Writes all rows value by value.
    #[inline(always)]
    fn shallow(self) {
        for i in 0..self.height {
            let run = self.rows.get(i).copied().flatten();
            for k in 0..self.depth {
                self.out[k * self.stride + i] = run.map_or(0.0, |run| run[k]);
            }
        }
    }

    /// Writes all rows, `ROWS` at most, in square blocks; the depth is at least that of a block.
    #[inline(always)]
    fn transpose<W: Wide, const ROWS: usize>(self, wide: W) {
        let lanes = W::F32_LANES;
        // Where each row begins, and whether it goes on.
        let mut sources = [(ZEROS.as_ptr(), 0); ROWS];
        for (row, source) in self.rows.iter().zip(&mut sources) {
            if let Some(run) = row {
                *source = (run.as_ptr(), usize::MAX);
            }
        }
        for k in (0..self.depth).step_by(lanes) {
            // The last block overlaps the one before rather than being short.
            let k = k.min(self.depth - lanes);
            for first in (0..self.height).step_by(lanes).rev() {
                let mut vectors = [wide.splat_f32s(0.0); LANES_MOST];
                let sources = &sources[first..][..lanes];
                for (lane, vector) in vectors.iter_mut().enumerate().take(lanes) {
                    let (source, moves) = sources[lane];
                    // SAFETY: a run has `depth` values, of which a vector is left at `k`; the
                    // zeros, which do not move, are as long as the largest vector.
                    *vector = unsafe { wide.load(source.wrapping_add(k & moves)) };
                }
                let vectors = wide.transpose(vectors);
                let count = lanes.min(self.height - first);
                let place = [first, count];
                store(wide, vectors, self.out, place, [k, lanes], self.stride);
            }
        }
    }
}

/// `panel[(k + step) · stride + first + lane] = vectors[step]` for `count` lanes and `steps` steps.
/// Whole vectors spill over lanes in front of the group and over later steps, which are undefined
/// afterwards: the groups of a block come last to first, blocks first to last.
#[inline(always)]
pub(super) fn store<W: Wide>(
    wide: W,
    vectors: [W::f32s; LANES_MOST],
    panel: &mut [f32],
    [first, count]: [usize; 2],
    [k, steps]: [usize; 2],
    stride: usize,
) {
    let lanes = W::F32_LANES;
    let panel = &mut panel[k * stride + first..];
    if steps == lanes && (lanes - 1) * stride + lanes <= panel.len() {
        for (step, &vector) in vectors.iter().enumerate() {
            if step < lanes {
                let place = panel.as_mut_ptr().wrapping_add(step * stride);
                // SAFETY: there is room for the last one.
                unsafe { wide.store(place, vector) };
            }
        }
        return;
    }
    for (step, &vector) in vectors.iter().enumerate().take(steps) {
        let panel = &mut panel[step * stride..];
        if lanes <= panel.len() {
            // SAFETY: the line above.
            unsafe { wide.store(panel.as_mut_ptr(), vector) };
        } else {
            let mut values = ZEROS;
            // SAFETY: the array is as long as the largest vector.
            unsafe { wide.store(values.as_mut_ptr(), vector) };
            panel[..count].copy_from_slice(&values[..count]);
        }
    }
}

/// `out[k · stride + i] = x[k · step + i]` for `[width, depth]` of `i` and `k`: rows that lie side
/// by side as a part of a panel. Nothing else is written.
///
/// # Panics
/// When `width` exceeds `stride`, or `out` or `x` is too short: callers computed them.
pub(crate) fn strip(
    machine: Machine,
    out: &mut [f32],
    stride: usize,
    x: &[f32],
    step: usize,
    [width, depth]: [usize; 2],
) {
    if width == 0 || depth == 0 {
        return;
    }
    assert!(width <= stride, "steps of the panel overlap");
    let end = |step: usize| {
        let last = (depth - 1).checked_mul(step);
        last.and_then(|last| last.checked_add(width))
            .unwrap_or(usize::MAX)
    };
    assert!(end(stride) <= out.len(), "the panel is too short");
    assert!(end(step) <= x.len(), "the rows are too short");
    machine.run(Strip {
        out,
        stride,
        x,
        step,
        width,
        depth,
    });
}

struct Strip<'a> {
    out: &'a mut [f32],
    stride: usize,
    x: &'a [f32],
    step: usize,
    width: usize,
    depth: usize,
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let whole = W::VECTORS * W::F32_LANES;
        match self.width {
            width if width == whole => self.vectors(wide, [0, 1, 2, 3].map(|v| v * W::F32_LANES)),
            width if width >= W::Narrow::F32_LANES && width <= 4 * W::Narrow::F32_LANES => {
                // The last vectors overlap rather than being short.
                let lanes = W::Narrow::F32_LANES;
                let places = [0, 1, 2, 3].map(|v| (v * lanes).min(width - lanes));
                self.vectors_of(wide.narrow(), places, width.div_ceil(lanes));
            }
            width => {
                for k in 0..self.depth {
                    let x = &self.x[k * self.step..][..width];
                    self.out[k * self.stride..][..width].copy_from_slice(x);
                }
            }
        }
    }
}

impl Strip<'_> {
    /// Copies the vectors of a whole panel at each step.
    #[inline(always)]
    fn vectors<W: Wide>(self, wide: W, places: [usize; 4]) {
        match W::VECTORS {
            2 => self.vectors_of(wide, places, 2),
            _ => self.vectors_of(wide, places, 4),
        }
    }

    /// Copies `count` vectors at these places of each step, in order.
    #[inline(always)]
    fn vectors_of<W: Wide>(self, wide: W, places: [usize; 4], count: usize) {
        let (mut x, mut out) = (self.x.as_ptr(), self.out.as_mut_ptr());
        for _ in 0..self.depth {
            for &place in places.iter().take(count) {
                // SAFETY: each vector lies within the width of its step, and the last step within
                // both slices, which the caller has checked.
                unsafe { wide.store(out.wrapping_add(place), wide.load(x.wrapping_add(place))) };
            }
            x = x.wrapping_add(self.step);
            out = out.wrapping_add(self.stride);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::testing::normals;

    /// Packs `given` rows, every third of which is none, into panels `stride` wide.
    fn check(machine: Machine, [height, depth]: [usize; 2], stride: usize, given: usize) {
        let case = format!(
            "{} {height} x {depth} by {stride}, {given} given",
            machine.name()
        );
        let data = normals(given * depth, 3);
        let row = |i: usize| (i % 3 != 2 && i < given).then(|| &data[i * depth..][..depth]);
        let rows: Vec<Option<&[f32]>> = (0..given).map(row).collect();
        let mut out = vec![7.0; depth * stride + 40];
        panel(machine, &mut out, [height, depth], stride, &rows);
        for k in 0..depth {
            for i in 0..height {
                let wanted = row(i).map_or(0.0, |run| run[k]);
                assert_eq!(out[k * stride + i], wanted, "{case}: {i}, {k}");
            }
        }
        let end = (depth - 1) * stride + height;
        assert!(out[end..].iter().all(|&x| x == 7.0), "{case}");
    }

    #[test]
    fn strips_of_all_sizes() {
        for machine in Machine::available() {
            for width in 1..=ROWS_MOST {
                for (depth, stride, step) in [(1, width, 0), (5, width + 3, width), (3, 64, 70)] {
                    let x = normals((depth - 1) * step + width, 4);
                    let mut out = vec![7.0; depth * stride];
                    strip(machine, &mut out, stride, &x, step, [width, depth]);
                    for (at, &found) in out.iter().enumerate() {
                        let (k, i) = (at / stride, at % stride);
                        let wanted = if i < width { x[k * step + i] } else { 7.0 };
                        let case = format!("{} {width} x {depth}", machine.name());
                        assert_eq!(found, wanted, "{case}: {i}, {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn panels_of_all_sizes() {
        for machine in Machine::available() {
            let (rows, columns) = (machine.rows(), machine.columns());
            for depth in [1, 3, 15, 16, 17, 40, 77] {
                for height in 1..=columns {
                    check(machine, [height, depth], height, height);
                }
                for given in [0, 1, rows] {
                    check(machine, [rows, depth], rows, given);
                    check(machine, [columns, depth], columns, given);
                    check(machine, [rows, depth], rows + 3, given);
                }
            }
        }
    }
}
