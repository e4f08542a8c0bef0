//! Folds: what sums, means, maxima, products and statistics keep of rows seen in part.
//!
//! Takes parts of rows of f32, gives numbers. Short sums are in f32 and what is kept in f64, and
//! parts join in a fixed order, so that neither the length of a row nor the number of threads can
//! be seen in a result.

use std::ops::Range;

use compiler::ops::Op;
use compiler::region::Anchor;
use compiler::tile::{Step, TileId};

use super::math::{max, short_sums, vectorized};

/// Numbers that lanes of vectors hold while a row passes by.
const LANES: usize = 64;

/// Numbers that a lane adds in f32 before its sum goes to f64.
const DEPTH: usize = 16;

/// How rows are folded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fold {
    /// The largest; NaN if one is.
    Max,
    Mean,
    Sum,
    /// The sum of products with another row.
    Dot,
    /// Mean and `1 / sqrt(variance + epsilon)`.
    Statistics {
        epsilon: f64,
    },
}

impl Fold {
    /// What an anchor folds, if it does.
    pub(crate) fn of(anchor: &Anchor) -> Option<Fold> {
        match anchor {
            Anchor::Statistics { epsilon, .. } => Some(Fold::Statistics { epsilon: *epsilon }),
            Anchor::Op { op: Op::Dot(_), .. } => Some(Fold::Dot),
            Anchor::Op {
                op: Op::ReduceMax(_),
                ..
            } => Some(Fold::Max),
            Anchor::Op {
                op: Op::ReduceMean(_),
                ..
            } => Some(Fold::Mean),
            Anchor::Op {
                op: Op::ReduceSum(_),
                ..
            } => Some(Fold::Sum),
            Anchor::Op { .. } | Anchor::MergeMoments { .. } | Anchor::Pointwise => None,
        }
    }

    /// Numbers that are kept of a row.
    pub(crate) fn kept(self) -> usize {
        match self {
            Fold::Max | Fold::Mean | Fold::Sum | Fold::Dot => 1,
            // Count, mean, sum of squared differences.
            Fold::Statistics { .. } => 3,
        }
    }

    /// What is kept of a row before any of it was seen.
    pub(crate) fn start(self) -> f64 {
        match self {
            Fold::Max => f64::NEG_INFINITY,
            Fold::Mean | Fold::Sum | Fold::Dot | Fold::Statistics { .. } => 0.0,
        }
    }

    /// Takes in a part of one row, and as much of the row that it is multiplied with.
    pub(crate) fn row(self, kept: &mut [f64], x: &[f32], with: &[f32]) {
        let part = match self {
            Fold::Max => [f64::from(vectorized(|| largest(x))), 0.0, 0.0],
            Fold::Mean | Fold::Sum => [vectorized(|| short_sums(x, |x| x)), 0.0, 0.0],
            Fold::Dot => [vectorized(|| dot(x, with)), 0.0, 0.0],
            Fold::Statistics { .. } => vectorized(|| moments(x)),
        };
        self.join(kept, &part[..self.kept()]);
    }

    /// Takes in some rows, one after the other, of columns that are folded each; not for
    /// statistics.
    pub(crate) fn down(self, kept: &mut [f64], x: &[f32], with: &[f32]) {
        let width = kept.len().max(1);
        match self {
            Fold::Mean | Fold::Sum => vectorized(|| add_down(kept, x)),
            Fold::Max => {
                for row in x.chunks_exact(width) {
                    for (kept, &x) in kept.iter_mut().zip(row) {
                        *kept = f64::from(max(x, *kept as f32));
                    }
                }
            }
            Fold::Dot => vectorized(|| dot_down(kept, x, with)),
            Fold::Statistics { .. } => unreachable!("statistics are folded row by row"),
        }
    }

    /// Joins what was kept of later parts of the same rows.
    ///
    /// # Source
    /// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
    pub(crate) fn join(self, kept: &mut [f64], later: &[f64]) {
        match self {
            Fold::Mean | Fold::Sum | Fold::Dot => {
                kept.iter_mut()
                    .zip(later)
                    .for_each(|(kept, later)| *kept += later);
            }
            Fold::Max => {
                for (kept, &later) in kept.iter_mut().zip(later) {
                    if later > *kept || later.is_nan() {
                        *kept = later;
                    }
                }
            }
            Fold::Statistics { .. } => {
                let (own, _) = kept.as_chunks_mut::<3>();
                let (later, _) = later.as_chunks::<3>();
                for (own, [count, mean, squares]) in own.iter_mut().zip(later) {
                    let total = own[0] + count;
                    if total > 0.0 {
                        let distance = mean - own[1];
                        own[2] += squares + distance * distance * own[0] * count / total;
                        own[1] += distance * count / total;
                        own[0] = total;
                    }
                }
            }
        }
    }

    /// What one row of `count` elements comes to.
    pub(crate) fn finish(self, kept: &[f64], count: usize, out: &mut [f32]) {
        match self {
            Fold::Max | Fold::Sum | Fold::Dot => out[0] = kept[0] as f32,
            Fold::Mean => out[0] = (kept[0] / count as f64) as f32,
            Fold::Statistics { epsilon } => {
                out[0] = kept[1] as f32;
                out[1] = (1.0 / (kept[2] / kept[0] + epsilon).sqrt()) as f32;
            }
        }
    }
}

/// The largest element; NaN if one is.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        lanes = std::array::from_fn(|lane| max(block[lane], lanes[lane]));
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |most, &x| max(x, most))
}

/// The sum of products, as [`short_sums`] adds.
#[inline(always)]
fn dot(x: &[f32], with: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, with) in x.chunks(DEPTH * LANES).zip(with.chunks(DEPTH * LANES)) {
        let mut lanes = [0.0f32; LANES];
        let ((a, a_rest), (b, b_rest)) = (x.as_chunks::<LANES>(), with.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            lanes = std::array::from_fn(|lane| lanes[lane] + a[lane] * b[lane]);
        }
        for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
            *lane += a * b;
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// Count, mean and sum of squared differences.
#[inline(always)]
fn moments(x: &[f32]) -> [f64; 3] {
    let count = x.len() as f64;
    let mean = short_sums(x, |x| x) / count;
    // Around a rounded mean the squares are larger by the square of its error: nothing.
    let near = mean as f32;
    [count, mean, short_sums(x, |x| (x - near) * (x - near))]
}

/// Sums of columns, four rows at a time.
#[inline(always)]
fn add_down(kept: &mut [f64], x: &[f32]) {
    let width = kept.len().max(1);
    let mut quads = x.chunks_exact(4 * width);
    for quad in &mut quads {
        let (first, second) = quad.split_at(2 * width);
        let (a, b) = first.split_at(width);
        let (c, d) = second.split_at(width);
        let rows = a.iter().zip(b).zip(c.iter().zip(d));
        for (kept, ((&a, &b), (&c, &d))) in kept.iter_mut().zip(rows) {
            *kept += (f64::from(a) + f64::from(b)) + (f64::from(c) + f64::from(d));
        }
    }
    for row in quads.remainder().chunks_exact(width) {
        for (kept, &x) in kept.iter_mut().zip(row) {
            *kept += f64::from(x);
        }
    }
}

/// Sums of products of columns, four rows at a time.
#[inline(always)]
fn dot_down(kept: &mut [f64], x: &[f32], with: &[f32]) {
    let width = kept.len().max(1);
    let mut quads = x.chunks_exact(4 * width);
    let mut other = with.chunks_exact(4 * width);
    for (x, with) in (&mut quads).zip(&mut other) {
        for (x, with) in x.chunks_exact(2 * width).zip(with.chunks_exact(2 * width)) {
            let ((a, b), (c, d)) = (x.split_at(width), with.split_at(width));
            let rows = a.iter().zip(c).zip(b.iter().zip(d));
            for (kept, ((&a, &c), (&b, &d))) in kept.iter_mut().zip(rows) {
                *kept += f64::from(a * c) + f64::from(b * d);
            }
        }
    }
    let rest = quads.remainder().chunks_exact(width);
    for (x, with) in rest.zip(other.remainder().chunks_exact(width)) {
        for ((kept, &x), &with) in kept.iter_mut().zip(x).zip(with) {
            *kept += f64::from(x * with);
        }
    }
}

/// Pieces of work that a fold is cut into at least, where it is long enough: each thread of a
/// large machine gets some.
const PIECES: usize = 64;

/// Steps of a piece at least: fewer cost less than handing them to a thread.
const STEPS_MIN: usize = 2;

/// The loop of a fold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folding {
    pub(crate) fold: Fold,
    pub(crate) acc: TileId,
    pub(crate) factors: [Option<TileId>; 2],
    pub(crate) down: bool,
    pub(crate) extent: usize,
    pub(crate) step: usize,
    /// Pieces of each block.
    pub(crate) pieces: usize,
}

impl Folding {
    /// The fold of a program's body, if it is one, in a grid of so many blocks.
    pub(crate) fn of(body: &[Step], anchor: &Anchor, blocks: usize) -> Option<Folding> {
        let fold = Fold::of(anchor)?;
        body.iter().find_map(|step| {
            let Step::Loop {
                extent, step, body, ..
            } = step
            else {
                return None;
            };
            let Some(Step::Fold {
                acc,
                from,
                with,
                down,
            }) = body.last()
            else {
                return None;
            };
            let (extent, step) = (*extent, (*step).max(1));
            let most = PIECES.div_ceil(blocks.max(1));
            Some(Folding {
                fold,
                acc: *acc,
                factors: [Some(*from), *with],
                down: *down,
                extent,
                step,
                pieces: (extent.div_ceil(step) / STEPS_MIN).clamp(1, most),
            })
        })
    }

    /// The elements that a piece takes in of each row.
    pub(crate) fn piece(&self, piece: usize) -> Range<usize> {
        let steps = self.extent.div_ceil(self.step);
        let start = |piece: usize| (steps * piece / self.pieces * self.step).min(self.extent);
        start(piece)..start(piece + 1)
    }
}
