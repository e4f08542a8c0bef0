//! `small_gemm`: products with few rows, such as those of a time embedding.
//!
//! Takes a contraction of a fragment's rows at most, returns the program in which one block has all
//! rows: the weights, which cost more than the arithmetic, are read once, in parts of columns
//! that keep every thread busy.

use crate::target::Target;
use crate::tile::BlockProgram;
use crate::tile::contraction::contraction;
use crate::tile::programs::gemm::{SMALL_ROWS_MAX, product};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region is not a product of matrices or has more rows.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let found = contraction(region)?;
    if found.rows > SMALL_ROWS_MAX {
        let rows = found.rows;
        return Err(format!("{rows} rows, wanted at most {SMALL_ROWS_MAX}"));
    }
    let blocks = &target.compute.blocks;
    let share = found.columns.div_ceil(target.compute.threads.max(1));
    let wide = share.min(8 * target.compute.fragment[1]);
    let block = [
        found.rows,
        even(found.columns, wide, target.compute.fragment[1]),
        even(found.depth, blocks.few_rows_depth, blocks.depth_unit),
    ];
    let seconds = cost::contraction(&found, block, target);
    Ok(vec![Candidate::new(block, seconds)])
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
    Ok(product("small_gemm", region.id, &found, parameters))
}
