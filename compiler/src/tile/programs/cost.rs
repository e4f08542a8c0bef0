//! What a program costs on a target: seconds, by arithmetic and by bytes.
//!
//! Takes extents and tile sizes, gives a prediction good enough to order candidates: the longer
//! of computing and moving (Williams, Waterman and Patterson 2009), with what rounding to
//! fragments, copies into tiles and idle threads add.

use crate::target::{Blocking, MatrixRates, Target};
use crate::tile::contraction::Contraction;
use crate::tile::region_ref::RegionRef;
use crate::tile::scores::Scores;

/// What reading one element of the right factor costs, beyond the products that it is used for,
/// where accumulators lie in memory.
const STREAM_FLOPS: f64 = 1.0;

/// What transforming one point of a tile costs, its copy included.
const TRANSFORM_FLOPS: f64 = 32.0;

/// What a point of a kernel costs that is transformed for each launch: it is written, and read
/// again from afar.
const FILTER_FLOPS: f64 = 40.0;

/// What a point costs beyond that when the points of a block lie far.
const FAR_POINT_FLOPS: f64 = 24.0;

/// Bytes of points of a block that lie near, as a multiple of
/// [`Compute::near_bytes`](crate::target::Compute::near_bytes): they are written and read plane by
/// plane.
const NEAR_POINTS: usize = 2;

/// Bytes of transformed weights that a cache behind all threads keeps from block to block, as a
/// multiple of [`Compute::near_bytes`](crate::target::Compute::near_bytes).
const KEPT_WEIGHTS: usize = 12;

/// What one score of attention costs beside its products: an exponential, above all.
const SCORE_FLOPS: f64 = 48.0;

/// How much slower products are when their tiles do not stay near.
const FAR: f64 = 1.15;

/// The rate of products between short tiles, as a part of the best.
const POINTS_EFFICIENCY: f64 = 0.9;

/// A convolution by points.
pub(super) struct Points {
    pub(super) planes: usize,
    pub(super) batch: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Results of a tile.
    pub(super) results: usize,
}

fn seconds(flops: f64, bytes: f64, target: &Target) -> f64 {
    let rate = target.compute.flops_per_second * target.compute.threads as f64;
    (flops / rate).max(bytes / target.compute.bytes_per_second)
}

/// `extent` in parts of `part`, each rounded up to fragments of `unit`.
fn padded(extent: usize, part: usize, unit: usize) -> f64 {
    let (whole, rest) = (extent / part, extent % part);
    let round = |part: usize| part.div_ceil(unit) * unit;
    (whole * round(part) + round(rest)) as f64
}

/// How much longer the busiest thread works than the mean one.
fn imbalance(blocks: usize, threads: usize) -> f64 {
    let threads = threads.max(1);
    (blocks.div_ceil(threads) * threads) as f64 / blocks.max(1) as f64
}

/// A product of matrices in blocks of `[rows, columns, depth]`.
pub(super) fn contraction(
    found: &Contraction,
    [rows, columns, depth]: [usize; 3],
    target: &Target,
) -> f64 {
    let (batch, planes) = (found.batch as f64, found.planes as f64);
    // Rows are cut evenly into fragments of any height up to the target's; short ones are slower.
    let height = rows as f64 / rows.div_ceil(target.compute.fragment[0]) as f64;
    let short = 1.0 + 0.12 * (target.compute.fragment[0] as f64 / height - 1.0);
    let padded_columns = padded(found.columns, columns, target.compute.fragment[1]);
    let products = 2.0 * batch * planes * found.rows as f64 * padded_columns * found.depth as f64;
    let grid = [found.columns.div_ceil(columns), found.rows.div_ceil(rows)];
    let mut copied = batch * grid[0] as f64 * (found.rows * found.depth) as f64;
    let passes = found.depth.div_ceil(depth) as f64;
    let accumulated = batch * planes * passes * (found.rows * found.columns) as f64;
    let wide = planes as usize * columns;
    let mut streamed = 0.0;
    // The last block of an axis may be small; whoever has none of them works longest.
    let mut cut = 1.0;
    let mut far = 1.0;
    match target.compute.blocking {
        Blocking::Packed { .. } => {
            streamed = batch * planes * grid[1] as f64 * padded_columns * found.depth as f64;
            let part = columns.next_multiple_of(target.compute.fragment[1]);
            let full = (grid[0] * part * grid[1] * rows) as f64;
            cut = full / (padded_columns * found.rows as f64);
            // Without rows of other blocks nobody reads the right factor again: it need not stay.
            let kept = if grid[1] > 1 { depth } else { 0 };
            let near = (rows * depth + wide * (kept + rows)) * size_of::<f32>();
            if near > target.compute.near_bytes {
                far = FAR;
            }
        }
        Blocking::Staged { .. } => {
            copied += batch * grid[1] as f64 * planes * (found.columns * found.depth) as f64;
        }
    }
    let blocks = found.batch * grid[0] * grid[1];
    let moved = found.rows * (found.depth + found.columns) + found.columns * found.depth;
    if let Some(rates) = &target.compute.matrices
        && found.is_narrow()
    {
        let near = near_bytes([rows, wide], rates.warps_max) * (blocks * found.depth) as f64;
        let bytes = 2.0 * batch * planes * moved as f64;
        let work = [
            products / rates.flops_per_second,
            near / rates.near_bytes_per_second,
            2.0 * copied / rates.copied_bytes_per_second,
        ];
        let longest = work.into_iter().fold(0.0, f64::max);
        let busy = longest * imbalance(blocks, rates.multiprocessors);
        return busy.max(bytes / target.compute.bytes_per_second);
    }
    let flops = products * far * short
        + copied * target.compute.copy_flops
        + streamed * STREAM_FLOPS
        + accumulated * target.compute.blocking.accumulator_flops();
    let bytes = batch * planes * (moved * size_of::<f32>()) as f64;
    seconds(
        flops * cut * imbalance(blocks, target.compute.threads),
        bytes,
        target,
    )
}

/// Adding up `elements` that products of parts of a depth stored, by a launch of its own.
pub(in crate::tile) fn sum_seconds(elements: usize, target: &Target, rates: &MatrixRates) -> f64 {
    let bytes = (elements * size_of::<f32>()) as f64;
    rates.launch_seconds + bytes / target.compute.bytes_per_second
}

/// Bytes that the warps of a block store and read of both factors for each depth, shared as is
/// best: each reads its own rows and columns, of whole fragments of 16 rows and 8 columns.
fn near_bytes([rows, columns]: [usize; 2], warps_max: usize) -> f64 {
    let [row_fragments, column_fragments] = [rows.div_ceil(16), columns.div_ceil(8)];
    let mut best = (0, 0);
    for along_rows in 1..=warps_max.min(row_fragments) {
        for along_columns in 1..=(warps_max / along_rows).min(column_fragments) {
            let warps = along_rows * along_columns;
            let read = 2 * (rows * along_columns + columns * along_rows);
            if warps > best.0 || (warps == best.0 && read < best.1) {
                best = (warps, read);
            }
        }
    }
    (2 * (rows + columns) + best.1) as f64
}

/// A convolution by points in blocks of `[tiles, columns]`.
pub(super) fn winograd(work: &Points, [rows, columns]: [usize; 2], target: &Target) -> f64 {
    let (planes, batch) = (work.planes as f64, work.batch as f64);
    let wide = padded(work.columns, columns, target.compute.fragment[1]);
    let products = 2.0 * planes * batch * work.rows as f64 * wide * work.depth as f64;
    let points = planes * batch * (work.rows * (work.depth + work.columns)) as f64;
    let blocks = work.batch * work.rows.div_ceil(rows);
    let near = work.planes * rows * (work.depth + columns) * size_of::<f32>();
    let point = match near > NEAR_POINTS * target.compute.near_bytes {
        true => TRANSFORM_FLOPS + FAR_POINT_FLOPS,
        false => TRANSFORM_FLOPS,
    };
    let flops = products / POINTS_EFFICIENCY + points * point;
    // The weights pass by once for each block that does not run beside another.
    let weights = work.planes * work.columns * work.depth;
    let kept = weights * size_of::<f32>() <= KEPT_WEIGHTS * target.compute.near_bytes;
    let images = (work.results * work.rows * (work.depth + work.columns)) as f64;
    let passes = match kept {
        true => 1,
        false => blocks.div_ceil(target.compute.threads.max(1)).max(1),
    };
    let bytes = ((weights * passes) as f64 + images * batch) * size_of::<f32>() as f64;
    // Each point's weights are new: they arrive while nothing else can be computed.
    let computed = seconds(
        flops * imbalance(blocks, target.compute.threads),
        0.0,
        target,
    );
    computed + bytes / target.compute.bytes_per_second
}

/// The gradient of a kernel by points in blocks of `[rows, columns, depth]`: rows are features,
/// columns channels, and the depth tiles.
pub(super) fn gradient(work: &Points, [rows, columns, depth]: [usize; 3], target: &Target) -> f64 {
    let planes = work.planes as f64;
    let [across, down] = [work.columns.div_ceil(columns), work.rows.div_ceil(rows)];
    let wide = padded(work.columns, columns, target.compute.fragment[1]);
    let products = 2.0 * planes * work.rows as f64 * wide * work.depth as f64;
    let copied = planes * (work.depth * (work.rows * across + work.columns * down)) as f64;
    let sums = planes * work.rows as f64 * wide;
    let passes = work.depth.div_ceil(depth) as f64;
    let flops = products / POINTS_EFFICIENCY
        + copied * TRANSFORM_FLOPS
        + sums * (passes * target.compute.blocking.accumulator_flops() + TRANSFORM_FLOPS);
    let bytes = (work.results * work.depth * (work.rows + work.columns)) * size_of::<f32>();
    let busy = imbalance(across * down, target.compute.threads);
    seconds(flops * busy, bytes as f64, target)
}

/// Transforming as many points of kernels ahead of a launch.
pub(super) fn filters(points: usize, target: &Target) -> f64 {
    let bytes = points * size_of::<f32>();
    seconds(points as f64 * FILTER_FLOPS, bytes as f64, target)
}

/// Attention in blocks of `[queries, keys]`.
pub(super) fn attention(attention: &Scores, [block, part]: [usize; 2], target: &Target) -> f64 {
    let (heads, compute) = (attention.heads(), &target.compute);
    let Scores {
        queries,
        keys,
        width,
        result,
        ..
    } = *attention;
    let scores = heads as f64 * padded(queries, block, compute.fragment[1]) * keys as f64;
    let blocks = heads * queries.div_ceil(block);
    let mut copied = (blocks * keys * (width + result)) as f64;
    let passes = (keys.div_ceil(part) * heads * queries * result) as f64;
    let near = (block * (width + part + result) + part * (width + result)) * size_of::<f32>();
    // Scores are written and read several times: they must stay beside what streams past.
    let mut far = 1.0;
    match compute.blocking {
        // Queries pass by again with each part of the keys.
        Blocking::Staged { .. } => {
            copied += (heads * queries * keys.div_ceil(part) * width) as f64;
        }
        Blocking::Packed { .. } if near > compute.near_bytes / 2 => far = FAR,
        Blocking::Packed { .. } => {}
    }
    let flops = scores * (2 * (width + result)) as f64 * far
        + scores * SCORE_FLOPS
        + copied * compute.copy_flops
        + passes * compute.blocking.accumulator_flops();
    let bytes = heads * (queries + keys) * (width + result) * size_of::<f32>();
    seconds(
        flops * imbalance(blocks, compute.threads),
        bytes as f64,
        target,
    )
}

/// The gradient of attention in blocks of `[queries, keys]`: a thread has whole heads.
pub(super) fn attention_gradient(
    attention: &Scores,
    [block, part]: [usize; 2],
    target: &Target,
) -> f64 {
    let (heads, compute) = (attention.heads(), &target.compute);
    let Scores {
        queries,
        keys,
        width,
        result,
        ..
    } = *attention;
    let scores = (heads * queries) as f64 * padded(keys, part, compute.fragment[1]);
    let passes = (heads * keys.div_ceil(part) * queries * (width + result)) as f64;
    let blocks = heads * keys.div_ceil(part) * queries.div_ceil(block);
    let sums = (blocks * part * (width + result)) as f64;
    // Weights, their changes, and those once more the other way round.
    let near = (3 * block * part + 2 * (block + part) * (width + result)) * size_of::<f32>();
    let far = if near > compute.near_bytes / 2 {
        FAR
    } else {
        1.0
    };
    let accumulator_flops = compute.blocking.accumulator_flops();
    let flops = scores * (6 * width + 4 * result) as f64 * far
        + scores * 2.0 * SCORE_FLOPS
        + passes * (2.0 * compute.copy_flops + accumulator_flops)
        + sums * accumulator_flops;
    let bytes = heads * (queries * (2 * width + 3 * result) + 3 * keys * (width + result));
    seconds(
        flops * imbalance(heads, compute.threads),
        (bytes * size_of::<f32>()) as f64,
        target,
    )
}

/// What moves its bytes and computes next to nothing.
pub(super) fn bytes(region: RegionRef<'_>, target: &Target) -> f64 {
    seconds(
        region.regions.flops(&region) as f64,
        region.regions.bytes(&region) as f64,
        target,
    )
}
