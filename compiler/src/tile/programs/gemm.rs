//! `gemm`: products of matrices, convolutions among them, by tiles of rows, columns and depth.
//!
//! Takes a contraction of more rows than [`small_gemm`](super::small_gemm) keeps, returns programs
//! for several tile sizes. The accumulator stays while the depth passes by in parts; the epilogue
//! runs on it before it leaves.

use crate::region::RegionId;
use crate::target::{Blocking, Target};
use crate::tile::contraction::{Contraction, contraction};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Products of at most this many rows are left to [`small_gemm`](super::small_gemm).
pub(super) const SMALL_ROWS_MAX: usize = 16;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region is not a product of matrices.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let found = contraction(region)?;
    if found.rows <= SMALL_ROWS_MAX {
        return Err(format!("{} rows, which small_gemm keeps", found.rows));
    }
    let candidate = |block| Candidate::new(block, cost::contraction(&found, block, target));
    Ok(blocks(&found, target).into_iter().map(candidate).collect())
}

/// The time predicted for the best blocks of a product; `None` of one that other programs keep.
pub(in crate::tile) fn best_product(found: &Contraction, target: &Target) -> Option<f64> {
    if found.rows <= SMALL_ROWS_MAX {
        return None;
    }
    let blocks = blocks(found, target).into_iter();
    let seconds = blocks.map(|block| cost::contraction(found, block, target));
    seconds.min_by(f64::total_cmp)
}

/// The blocks to choose from, `[rows, columns, depth]`.
fn blocks(found: &Contraction, target: &Target) -> Vec<[usize; 3]> {
    let [rows, columns] = target.compute.fragment;
    let mut blocks = Vec::new();
    let row_unit = target.compute.blocks.row_unit;
    for most in target.compute.blocks.rows.iter().map(|count| count * rows) {
        for wide in target
            .compute
            .blocks
            .columns
            .iter()
            .map(|count| count * columns)
        {
            let equal = even(found.columns, wide / found.planes.max(1), columns);
            for wide in [equal, shared(found.columns, equal, columns, target)] {
                for &deep in target.compute.blocks.depths {
                    let block = [
                        even(found.rows, most, row_unit.min(found.rows)),
                        wide,
                        even(found.depth, deep, target.compute.blocks.depth_unit),
                    ];
                    let elements = block[0] * block[1] * found.planes;
                    if target.compute.blocking.holds(elements) && !blocks.contains(&block) {
                        blocks.push(block);
                    }
                }
            }
        }
    }
    blocks
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let found = contraction(region)?;
    Ok(product("gemm", region.id, &found, parameters))
}

/// The extent of each part of at most `most` when every thread gets as many parts as the others;
/// where factors are staged, blocks are many and need not.
fn shared(extent: usize, most: usize, unit: usize, target: &Target) -> usize {
    let threads = match target.compute.blocking {
        Blocking::Packed { .. } => target.compute.threads.max(1),
        Blocking::Staged { .. } => 1,
    };
    let parts = extent
        .div_ceil(most.max(1))
        .max(1)
        .next_multiple_of(threads);
    even(extent, extent.div_ceil(parts), unit)
}

/// The program for one `[rows, columns, depth]` of a block.
pub(super) fn product(
    name: &'static str,
    id: RegionId,
    found: &Contraction,
    [rows, columns, depth]: [usize; 3],
) -> BlockProgram {
    let planes = found.planes;
    let (left, right, acc) = (TileId(0), TileId(1), TileId(2));
    let body = vec![
        Step::copy(left, 0, Origin::Rows, Origin::Depth),
        Step::copy(right, 1, Origin::Columns, Origin::Depth),
        Step::Mma { acc, left, right },
    ];
    BlockProgram {
        program: name,
        region: id,
        batch: found.batch,
        rows: found.rows,
        columns: found.columns,
        block: [rows, columns],
        tiles: vec![
            Tile::shared("a", rows, depth),
            Tile::shared("b", columns, depth).with_planes(planes),
            Tile::fragment("acc", rows, columns).with_planes(planes),
        ],
        views: vec![found.left.clone(), found.right.clone()],
        outputs: found.outputs.clone(),
        body: vec![
            Step::Zero { tile: acc },
            Step::repeat(Origin::Depth, found.depth, depth, 4, body),
            Step::store(acc),
        ],
    }
}
