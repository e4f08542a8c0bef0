//! Convolutions of images: a matrix product of the weights with patches of the image.
//!
//! Takes values, gives a buffer. Patches are copied for a block of positions at a time, so that
//! they stay in cache; convolutions of single pixels read the image itself.

use compiler::ops::{Conv, Extents};

use super::gemm::{Into, Matrix, On, gemm};
use super::threads::{chunks, each};
use super::value::Value;

/// Elements of the patches that are copied at a time.
const PATCHES: usize = 1 << 19;

/// The fewest positions of a block: fewer would read the weights too often.
const POSITIONS_LEAST: usize = 256;

/// One convolution of two spatial axes.
struct Geometry<'a> {
    op: &'a Conv,
    image: [usize; 2],
    kernel: [usize; 2],
    positions: [usize; 2],
}

/// The convolution; `None` where the image has not two spatial axes.
pub(crate) fn conv(op: &Conv, operands: &[Value], result: &Extents) -> Option<Vec<f32>> {
    let (x, w) = (&operands[0], &operands[1]);
    let &[batch, channels, height, width] = &x.shape[..] else {
        return None;
    };
    let &[features, depth, rows, columns] = &w.shape[..] else {
        return None;
    };
    let geometry = Geometry {
        op,
        image: [height, width],
        kernel: [rows, columns],
        positions: [result.shape[2], result.shape[3]],
    };
    let mut out = vec![0.0; result.elements()];
    if out.is_empty() {
        return Some(out);
    }
    let area = result.shape[2] * result.shape[3];
    let share = features / op.groups;
    for (index, out) in out.chunks_exact_mut(share * area).enumerate() {
        let (image, group) = (index / op.groups, index % op.groups);
        debug_assert!(image < batch);
        let first = (image * channels + group * depth) * height * width;
        let x = &x.floats()[first..][..depth * height * width];
        let taps = depth * rows * columns;
        let w = &w.floats()[group * share * taps..][..share * taps];
        let into = match operands.get(2) {
            Some(bias) => {
                let bias = &bias.floats()[group * share..];
                let planes = out.chunks_exact_mut(area).zip(bias);
                planes.for_each(|(plane, bias)| plane.fill(*bias));
                Into::Add
            }
            None => Into::Replace,
        };
        geometry.convolve(out, x, w, depth, into);
    }
    Some(out)
}

impl Geometry<'_> {
    /// One image, one group: `out` `[features, positions]` from `x` `[depth, image]` and `w`
    /// `[features, depth, kernel]`.
    fn convolve(&self, out: &mut [f32], x: &[f32], w: &[f32], depth: usize, into: Into) {
        let area: usize = self.positions.iter().product();
        let features = out.len() / area;
        let taps = depth * self.kernel[0] * self.kernel[1];
        let weights = Matrix::rows(w, taps);
        if self.is_pixelwise() {
            let image = Matrix::rows(x, area);
            return gemm(
                [features, area, taps],
                (out, area),
                weights,
                image,
                into,
                On::Pool,
            );
        }
        let block = (PATCHES / taps.max(1)).max(POSITIONS_LEAST).min(area);
        let mut patches = vec![0.0; taps * block];
        for first in (0..area).step_by(block) {
            let count = block.min(area - first);
            self.copy_patches(&mut patches[..taps * count], x, first, count);
            let product = [features, count, taps];
            let patches = Matrix::rows(&patches, count);
            gemm(
                product,
                (&mut out[first..], area),
                weights,
                patches,
                into,
                On::Pool,
            );
        }
    }

    /// Whether every position reads the one pixel below it.
    fn is_pixelwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.op.strides == [1, 1]
            && self.op.pads_before == [0, 0]
            && self.op.pads_after == [0, 0]
    }

    /// Row `(c, i, j)` of the patches: what element `(i, j)` of the kernel meets in channel `c`
    /// at each of `count` positions from `first` on; 0 outside of the image.
    fn copy_patches(&self, patches: &mut [f32], x: &[f32], first: usize, count: usize) {
        let (size, kernel) = (
            self.image[0] * self.image[1],
            self.kernel[0] * self.kernel[1],
        );
        each(chunks(patches, kernel * count), |(channel, patches)| {
            let x = &x[channel * size..][..size];
            for (tap, row) in patches.chunks_exact_mut(count).enumerate() {
                let tap = [tap / self.kernel[1], tap % self.kernel[1]];
                self.copy_row(row, x, tap, first);
            }
        });
    }

    fn copy_row(&self, mut row: &mut [f32], x: &[f32], tap: [usize; 2], first: usize) {
        let [height, width] = self.image;
        let mut position = [first / self.positions[1], first % self.positions[1]];
        while !row.is_empty() {
            let run = row.len().min(self.positions[1] - position[1]);
            let (out, rest) = row.split_at_mut(run);
            let y = position[0] * self.op.strides[0] + tap[0] * self.op.dilations[0];
            match y
                .checked_sub(self.op.pads_before[0])
                .filter(|&y| y < height)
            {
                Some(y) => self.copy_line(out, &x[y * width..][..width], tap[1], position[1]),
                None => out.fill(0.0),
            }
            position = [position[0] + 1, 0];
            row = rest;
        }
    }

    /// What the kernel's column `tap` meets on one line at the positions from `first` on.
    fn copy_line(&self, out: &mut [f32], line: &[f32], tap: usize, first: usize) {
        let (stride, pad) = (self.op.strides[1], self.op.pads_before[1]);
        let start = first * stride + tap * self.op.dilations[1];
        if stride == 1 {
            // Out of the image on the left, inside of it, out of it on the right.
            let left = pad.saturating_sub(start).min(out.len());
            let from = (start + left).saturating_sub(pad).min(line.len());
            let inside = (line.len() - from).min(out.len() - left);
            out[..left].fill(0.0);
            out[left..left + inside].copy_from_slice(&line[from..from + inside]);
            out[left + inside..].fill(0.0);
            return;
        }
        for (i, out) in out.iter_mut().enumerate() {
            let at = (start + i * stride).checked_sub(pad);
            *out = at.and_then(|at| line.get(at)).copied().unwrap_or(0.0);
        }
    }
}
