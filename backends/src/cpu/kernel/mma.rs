//! Matrix products of packed panels: the kernel under convolutions, products and attention.
//!
//! Takes a left operand packed in panels of rows, a right one packed in panels of columns and an
//! accumulator, and adds their product to it, one register tile after the other. It packs nothing
//! and decides no block size: operands should fit the caches.
#![allow(
    unsafe_code,
    reason = "register tiles address packed panels, checked once per call, by pointers"
)]

use super::machine::{Kernel, Machine};
use super::wide::Wide;

/// Rows in panels: element `(i, k)` is at
/// `(i / height) · panel_stride + k · height + i % height`. The last panel may hold fewer rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    /// Rows of a panel, at most [`Machine::rows`]: callers choose it so that panels are even.
    pub(crate) height: usize,
    pub(crate) panel_stride: usize,
}

/// Columns in panels of `width` = [`Machine::columns`]: element `(j, k)` is at
/// `(j / width) · panel_stride + k · width + j % width`. The last panel is as wide as the others;
/// what its surplus columns hold reaches only surplus columns of the accumulator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) panel_stride: usize,
}

/// Element `(i, j)` is at `i · row_stride + (j / width) · panel_stride + j % width`, with the
/// `width` of [`Right`]: rows after one another, or panels of columns. Columns are padded to whole
/// vectors, whose surplus is overwritten.
#[derive(Debug)]
pub(crate) struct Acc<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) row_stride: usize,
    pub(crate) panel_stride: usize,
}

/// What the accumulator holds before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: it is overwritten.
    Zero,
    /// A sum that the product is added to.
    Load,
}

/// `acc[i, j] (+)= Σ_k left[i, k] · right[j, k]` for `[rows, columns, depth]` of `i`, `j`, `k`.
/// Every sum runs over `k` in order.
///
/// # Panics
/// When a panel is higher than the register tile or an operand is shorter than the sizes say:
/// callers computed them.
pub(crate) fn mma(
    machine: Machine,
    acc: Acc<'_>,
    left: Left<'_>,
    right: Right<'_>,
    sizes: [usize; 3],
    start: Start,
) {
    machine.run(Mma {
        acc,
        left,
        right,
        sizes,
        start,
    });
}

struct Mma<'a> {
    acc: Acc<'a>,
    left: Left<'a>,
    right: Right<'a>,
    sizes: [usize; 3],
    start: Start,
}

/// Elements that a slice needs to hold the offsets up to `Σ count · stride`; `usize::MAX`, which
/// no slice has, where that is no number.
fn needed(last: [(usize, usize); 3]) -> usize {
    let sum = last.iter().try_fold(1usize, |sum, (count, stride)| {
        sum.checked_add(count.checked_mul(*stride)?)
    });
    sum.unwrap_or(usize::MAX)
}

/// `extent` in blocks of `size`: how many there are, and what the last one holds.
fn blocks(extent: usize, size: usize) -> (usize, usize) {
    (extent.div_ceil(size), (extent - 1) % size + 1)
}

impl Kernel for Mma<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self, wide: W) {
        let Mma {
            acc,
            left,
            right,
            sizes: [rows, columns, depth],
            start,
        } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        let (height, width) = (left.height, W::VECTORS * W::F32_LANES);
        assert!(
            (1..=W::ROWS).contains(&height),
            "{height} rows of a panel do not fit the registers"
        );
        let (panels, last_rows) = blocks(rows, height);
        let (strips, last_columns) = blocks(columns, width);
        let last_vectors = last_columns.div_ceil(W::F32_LANES);
        // The last block is the smallest: where there are others, their end counts too.
        let strip_ends = [
            (strips - 1, last_vectors * W::F32_LANES - 1),
            (
                strips.saturating_sub(2),
                width.min(columns.next_multiple_of(W::F32_LANES)) - 1,
            ),
        ];
        let panel_ends = [
            (panels - 1, last_rows - 1),
            (panels.saturating_sub(2), height.min(rows) - 1),
        ];
        for (strip, column) in strip_ends {
            let last = [
                (rows - 1, acc.row_stride),
                (strip, acc.panel_stride),
                (column, 1),
            ];
            assert!(
                needed(last) <= acc.data.len(),
                "the accumulator is too short"
            );
            if let Some(deepest) = depth.checked_sub(1) {
                let last = [(strip, right.panel_stride), (deepest, width), (column, 1)];
                assert!(
                    needed(last) <= right.data.len(),
                    "the right operand is too short"
                );
            }
        }
        for (panel, row) in panel_ends {
            if let Some(deepest) = depth.checked_sub(1) {
                let last = [(panel, left.panel_stride), (deepest, height), (row, 1)];
                assert!(
                    needed(last) <= left.data.len(),
                    "the left operand is too short"
                );
            }
        }
        let out = acc.data.as_mut_ptr();
        let lines = width.div_ceil(LINE);
        for strip in 0..strips {
            let vectors = if strip + 1 == strips {
                last_vectors
            } else {
                W::VECTORS
            };
            let right_panel = right.data.as_ptr().wrapping_add(strip * right.panel_stride);
            for panel in 0..panels {
                let rows = if panel + 1 == panels {
                    last_rows
                } else {
                    height
                };
                let ahead = if panel < lines && strip + 1 < strips {
                    right_panel.wrapping_add(right.panel_stride + panel * depth * LINE)
                } else {
                    right_panel
                };
                let tile = Tile {
                    depth,
                    left: left.data.as_ptr().wrapping_add(panel * left.panel_stride),
                    height,
                    right: right_panel,
                    ahead,
                    acc: out
                        .wrapping_add(panel * height * acc.row_stride + strip * acc.panel_stride),
                    row_stride: acc.row_stride,
                    start,
                };
                // SAFETY: the assertions above keep the last element of the last block and of the
                // one before it, and so all others, inside of their slices; `acc` is borrowed
                // mutably.
                unsafe { tile.multiply(wide, rows, vectors) };
            }
        }
    }
}

/// f32 values in a line of the cache.
const LINE: usize = 16;

/// One register tile: pointers to the first elements of its operands.
#[derive(Debug, Clone, Copy)]
struct Tile {
    depth: usize,
    left: *const f32,
    height: usize,
    right: *const f32,
    /// Where to ask for lines of the cache while computing, one per step of the depth: the first
    /// tiles of a right panel fetch the next one.
    ahead: *const f32,
    acc: *mut f32,
    row_stride: usize,
    start: Start,
}

impl Tile {
    /// Computes `rows` rows of `vectors` vectors.
    ///
    /// # Safety
    /// All elements of the tile lie inside of their slices, and `acc` may be written.
    // SAFETY: the caller's promise is handed on.
    #[inline(always)]
    unsafe fn multiply<W: Wide>(self, wide: W, rows: usize, vectors: usize) {
        macro_rules! sizes {
            ($($rows:literal)*) => {
                match (rows, vectors) {
                    $(
                        ($rows, 1) if $rows <= W::ROWS => self.sums::<W, $rows, 1>(wide),
                        ($rows, 2) if $rows <= W::ROWS && W::VECTORS >= 2 => {
                            self.sums::<W, $rows, 2>(wide)
                        }
                        ($rows, 3) if $rows <= W::ROWS && W::VECTORS >= 3 => {
                            self.sums::<W, $rows, 3>(wide)
                        }
                        ($rows, 4) if $rows <= W::ROWS && W::VECTORS >= 4 => {
                            self.sums::<W, $rows, 4>(wide)
                        }
                    )*
                    _ => unreachable!("{rows} rows of {vectors} vectors"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
    }

    /// # Safety
    /// As [`Tile::multiply`].
    // SAFETY: the caller's promise is handed on.
    #[inline(always)]
    unsafe fn sums<W: Wide, const M: usize, const N: usize>(self, wide: W) {
        let mut sums = [[wide.splat_f32s(0.0); N]; M];
        let (mut left, mut right, mut ahead) = (self.left, self.right, self.ahead);
        for _ in 0..self.depth {
            wide.prefetch(ahead);
            ahead = ahead.wrapping_add(LINE);
            let mut columns = [wide.splat_f32s(0.0); N];
            for (j, column) in columns.iter_mut().enumerate() {
                // SAFETY: step `k` reads `N` vectors and `M` values at `k` times the width of the
                // panel, which the caller has checked.
                *column = unsafe { wide.load(right.wrapping_add(j * W::F32_LANES)) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let row = wide.splat_f32s(unsafe { left.wrapping_add(i).read() });
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = wide.fma(row, column, *sum);
                }
            }
            left = left.wrapping_add(self.height);
            right = right.wrapping_add(W::VECTORS * W::F32_LANES);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let place = self
                    .acc
                    .wrapping_add(i * self.row_stride + j * W::F32_LANES);
                // SAFETY: the caller has checked that row `i` holds `N` vectors.
                unsafe {
                    let sum = match self.start {
                        Start::Zero => sum,
                        Start::Load => wide.add_f32s(wide.load(place), sum),
                    };
                    wide.store(place, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernel::testing::{normals, widths};

    /// A product of `[rows, columns, depth]` in panels of `height` rows, whose second half of the
    /// depth is added to the first, against f64; `panelled` says how the accumulator lies.
    fn check(machine: Machine, sizes: [usize; 3], height: usize, panelled: bool) {
        let case = format!("{} {sizes:?} by {height}, {panelled}", machine.name());
        let ([rows, columns, depth], width) = (sizes, machine.columns());
        let (a, b) = (normals(rows * depth, 1), normals(columns * depth, 2));
        let strips = columns.div_ceil(width);
        let mut left = vec![f32::NAN; rows.div_ceil(height) * height * depth];
        let mut right = vec![f32::NAN; strips * width * depth];
        for k in 0..depth {
            for i in 0..rows {
                left[i / height * height * depth + k * height + i % height] = a[i * depth + k];
            }
            for j in 0..columns {
                right[j / width * width * depth + k * width + j % width] = b[j * depth + k];
            }
        }
        let (row_stride, panel_stride) = match panelled {
            true => (width, rows * width),
            false => (strips * width, width),
        };
        let mut acc = vec![f32::INFINITY; strips * width * rows];
        let half = depth / 2;
        for (from, to, start) in [(0, half, Start::Zero), (half, depth, Start::Load)] {
            mma(
                machine,
                Acc {
                    data: &mut acc,
                    row_stride,
                    panel_stride,
                },
                Left {
                    data: left.get(from * height..).unwrap_or_default(),
                    height,
                    panel_stride: height * depth,
                },
                Right {
                    data: right.get(from * width..).unwrap_or_default(),
                    panel_stride: width * depth,
                },
                [rows, columns, to - from],
                start,
            );
        }
        for i in 0..rows {
            for j in 0..columns {
                let found = acc[i * row_stride + j / width * panel_stride + j % width];
                let terms = a[i * depth..][..depth].iter().zip(&b[j * depth..][..depth]);
                let wanted: f64 = terms.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                // Terms are normal: a few roundings of a sum of about √depth.
                let budget = 1e-6 * (depth as f64).sqrt().max(1.0);
                let error = (f64::from(found) - wanted).abs();
                assert!(error <= budget, "{case}: {found} for {wanted} at {i}, {j}");
            }
        }
    }

    #[test]
    fn products_of_all_sizes() {
        for machine in Machine::available() {
            let most = machine.rows();
            for rows in 1..=2 * most + 1 {
                for height in [rows.min(most), most, most.div_ceil(2)] {
                    check(machine, [rows, 3, 3], height, false);
                }
            }
            for columns in widths(machine) {
                for depth in [1, 3, 40, 77] {
                    check(machine, [most + 1, columns, depth], most, false);
                    check(machine, [2 * most - 1, columns, depth], most - 1, true);
                }
            }
        }
    }

    #[test]
    fn no_depth_is_zero_and_nothing_is_nothing() {
        for machine in Machine::available() {
            check(machine, [2, 3, 0], 2, false);
            check(machine, [0, 3, 2], 1, false);
            check(machine, [3, 0, 2], 1, true);
        }
    }

    #[test]
    fn operands_that_are_too_short_are_refused() {
        for machine in Machine::available() {
            let (height, width) = (machine.rows(), machine.columns());
            let (sizes, rows, strips) = ([height + 1, width + 1, 3], height + 1, 2);
            let lacks = |[acc, left, right]: [usize; 3]| {
                // The last strip holds one vector, the last panel one row.
                let mut data =
                    vec![0.0; (rows - 1) * strips * width + width + machine.lanes() - acc];
                let left = vec![0.0; 3 * height + 2 * height + 1 - left];
                let right = vec![0.0; 3 * width + 2 * width + machine.lanes() - right];
                let work = std::panic::AssertUnwindSafe(|| {
                    let acc = Acc {
                        data: &mut data,
                        row_stride: strips * width,
                        panel_stride: width,
                    };
                    let left = Left {
                        data: &left,
                        height,
                        panel_stride: 3 * height,
                    };
                    let right = Right {
                        data: &right,
                        panel_stride: 3 * width,
                    };
                    mma(machine, acc, left, right, sizes, Start::Zero);
                });
                std::panic::catch_unwind(work).is_err()
            };
            let found = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]].map(lacks);
            assert_eq!(found, [false, true, true, true], "{}", machine.name());
        }
    }
}
