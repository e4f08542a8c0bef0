//! `gemm`: products of matrices, convolutions among them, by tiles of rows, columns and depth.
//!
//! Takes a contraction of more rows than [`small_gemm`](super::small_gemm) keeps, gives programs
//! for several tile sizes. The accumulator stays while the depth passes by in parts; the epilogue
//! runs on it before it leaves.

use crate::region::{Region, RegionId, Regions};
use crate::target::{Blocks, Target};
use crate::tile::contraction::{Contraction, contraction};
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// Products of at most this many rows are left to [`small_gemm`](super::small_gemm).
pub(super) const SMALL_ROWS_MAX: usize = 16;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region is not a product of matrices.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    let found = contraction(regions, region)?;
    if found.rows <= SMALL_ROWS_MAX {
        return Err(format!("{} rows, which small_gemm keeps", found.rows));
    }
    let [rows, columns] = target.fragment;
    let mut blocks = Vec::new();
    let Blocks { row_unit, .. } = target.blocks;
    for most in target.blocks.rows.iter().map(|count| count * rows) {
        for wide in target.blocks.columns.iter().map(|count| count * columns) {
            let equal = even(found.columns, wide / found.planes.max(1), columns);
            for wide in [equal, shared(found.columns, equal, columns, target)] {
                for &deep in target.blocks.depths {
                    let block = [
                        even(found.rows, most, row_unit.min(found.rows)),
                        wide,
                        even(found.depth, deep, 1),
                    ];
                    let elements = block[0] * block[1] * found.planes;
                    let held = target.blocks.registers.is_none_or(|most| elements <= most);
                    if held && !blocks.contains(&block) {
                        blocks.push(block);
                    }
                }
            }
        }
    }
    let candidate = |block: [usize; 3]| Candidate {
        seconds: cost::contraction(&found, block, target),
        added_weight_bytes: 0,
        parameters: block,
    };
    Ok(blocks.into_iter().map(candidate).collect())
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    regions: &Regions,
    id: RegionId,
    region: &Region,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let found = contraction(regions, region)?;
    Ok(product("gemm", id, &found, parameters))
}

/// The extent of each part when `extent` is cut into as few equal parts of at most `most` as can
/// be, a multiple of `unit`.
pub(super) fn even(extent: usize, most: usize, unit: usize) -> usize {
    let most = most.max(1);
    let parts = extent.div_ceil(most).max(1);
    let part = extent.div_ceil(parts).max(1);
    part.div_ceil(unit).saturating_mul(unit).max(1)
}

/// The extent of each part of at most `most` when every thread gets as many parts as the others;
/// where accumulators lie in registers, blocks are many and need not.
fn shared(extent: usize, most: usize, unit: usize, target: &Target) -> usize {
    let threads = match target.blocks.registers {
        None => target.threads.max(1),
        Some(_) => 1,
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
    let tile = |name, scope, planes, rows, columns| Tile {
        name,
        scope,
        planes,
        rows,
        columns,
    };
    let planes = found.planes;
    let (left, right, acc) = (TileId(0), TileId(1), TileId(2));
    let copy = |tile, view, rows| Step::Copy {
        tile,
        view,
        rows,
        columns: Origin::Depth,
        transform: None,
    };
    BlockProgram {
        program: name,
        region: id,
        batch: found.batch,
        rows: found.rows,
        columns: found.columns,
        block: [rows, columns],
        tiles: vec![
            tile("a", Scope::Shared, 1, rows, depth),
            tile("b", Scope::Shared, planes, columns, depth),
            tile("acc", Scope::Fragment, planes, rows, columns),
        ],
        views: vec![found.left.clone(), found.right.clone()],
        outputs: found.outputs.clone(),
        body: vec![
            Step::Zero { tile: acc },
            Step::Loop {
                over: Origin::Depth,
                extent: found.depth,
                step: depth,
                stages: 3,
                body: vec![
                    copy(left, 0, Origin::Rows),
                    copy(right, 1, Origin::Columns),
                    Step::Mma { acc, left, right },
                ],
            },
            Step::Store {
                tile: Some(acc),
                transform: None,
            },
        ],
    }
}
