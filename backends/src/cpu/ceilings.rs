//! What this machine can do at most: the rate of a large matrix product and of a copy of memory.
//!
//! Takes a number of threads and a clock, gives two rates, each the best of several tries. The
//! product is the library's of plain matrices or the kernels' of packed ones, whichever is faster:
//! no yardstick should be beaten by what it measures. It decides nothing.

use super::error::ExecuteError;
use super::gemm::{Matrix, gemm};
use super::kernel::machine::Machine;
use super::kernel::mma::{Acc, Left, Right, Start, mma};
use super::threads::{Threads, chunks, each};
use crate::clock::Clock;

/// Rows, columns and depth of the matrix product: large enough to reach the library's full rate,
/// small enough for a dozen tries in a fraction of a second.
const PRODUCT: usize = 1024;

/// Rows, columns and depth of a block of packed panels that a second cache holds, but for the right
/// operand.
const BLOCK: [usize; 3] = [96, 1024, 384];

/// Blocks of a try, shared by all threads: as much work as [`PRODUCT`], nearly.
const BLOCKS: usize = 24;

/// Elements that are copied: source and destination together exceed the caches of most machines.
const COPY: usize = 1 << 24;

/// Elements that one task copies.
const COPY_BLOCK: usize = 1 << 18;

/// Tries of each kind; the best counts, because whatever disturbs makes a try slower.
const TRIES: usize = 12;

/// Measured rates of this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Floating-point operations per second of an f32 matrix product, a multiply-add counted as
    /// two.
    pub gemm_flops_per_second: f64,
    /// Bytes read plus bytes written per second by a copy of memory.
    pub copy_bytes_per_second: f64,
}

impl Ceilings {
    /// The higher of both measurements, rate by rate.
    pub fn best(self, other: Ceilings) -> Ceilings {
        let gemm = self.gemm_flops_per_second.max(other.gemm_flops_per_second);
        let copy = self.copy_bytes_per_second.max(other.copy_bytes_per_second);
        Ceilings {
            gemm_flops_per_second: gemm,
            copy_bytes_per_second: copy,
        }
    }
}

/// Measures both rates on `threads` threads, or one per core.
///
/// # Errors
/// When threads cannot start.
pub fn measure(threads: Option<usize>, clock: Clock<'_>) -> Result<Ceilings, ExecuteError> {
    let threads = Threads::new(threads)?;
    Ok(threads.install(|| Ceilings {
        gemm_flops_per_second: product(clock).max(packed_product(clock)),
        copy_bytes_per_second: 2.0 * (COPY * size_of::<f32>()) as f64 / copy(clock),
    }))
}

/// Operations per second of the library's fastest product.
fn product(clock: Clock<'_>) -> f64 {
    let n = PRODUCT;
    let ramp = |start: usize| -> Vec<f32> {
        let term = |i: usize| ((start + i) % 17) as f32 / 17.0 - 0.5;
        (0..n * n).map(term).collect()
    };
    let (a, b) = (ramp(0), ramp(5));
    let mut out = vec![0.0; n * n];
    let seconds = fastest(clock, || {
        let (a, b) = (Matrix::rows(&a, n), Matrix::rows(&b, n));
        gemm([n, n, n], (&mut out, n), a, b);
    });
    2.0 * (PRODUCT as f64).powi(3) / seconds
}

/// Operations per second of the kernels' fastest product of packed panels.
fn packed_product(clock: Clock<'_>) -> f64 {
    let (machine, [rows, columns, depth]) = (Machine::detect(), BLOCK);
    let (height, width) = (machine.rows(), machine.columns());
    let padded = columns.next_multiple_of(width);
    let left = vec![0.5; rows.next_multiple_of(height) * depth];
    let right = vec![0.25; padded * depth];
    let mut out = vec![0.0; BLOCKS * rows * padded];
    let seconds = fastest(clock, || {
        each(chunks(&mut out, rows * padded), |(_, data)| {
            let acc = Acc {
                data,
                row_stride: padded,
                panel_stride: width,
            };
            let left = Left {
                data: &left,
                height,
                panel_stride: height * depth,
            };
            let right = Right {
                data: &right,
                panel_stride: width * depth,
            };
            mma(machine, acc, left, right, BLOCK, Start::Zero);
        });
    });
    2.0 * (BLOCKS * rows * columns * depth) as f64 / seconds
}

/// Seconds of the fastest copy.
fn copy(clock: Clock<'_>) -> f64 {
    // Not zeros: the system would map one page for all of them.
    let source = vec![1.0f32; COPY];
    let mut destination = vec![2.0f32; COPY];
    fastest(clock, || {
        each(chunks(&mut destination, COPY_BLOCK), |(index, block)| {
            let source = &source[index * COPY_BLOCK..][..block.len()];
            block.copy_from_slice(source);
        });
    })
}

fn fastest(clock: Clock<'_>, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let before = clock();
        work();
        best = best.min(clock() - before);
    }
    best
}
