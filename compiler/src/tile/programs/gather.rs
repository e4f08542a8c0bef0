//! `gather`: rows of a table that indices name, such as the embeddings of tokens.
//!
//! Takes a gather along the first axis of a table of floats, returns the program in which a block
//! copies some rows.

use crate::ops::Op;
use crate::region::{Access, Region};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Step, Tile, TileId};

/// Rows of a block at most.
const ROWS: usize = 64;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region is no such gather.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let (_, indices) = suited(&region)?;
    let count: usize = indices.shape.iter().product();
    let share = count.div_ceil(target.compute.threads.max(1)).min(ROWS);
    let seconds = cost::bytes(region, target);
    Ok(vec![Candidate::new([even(count, share, 1), 1, 1], seconds)])
}

fn suited(region: &Region) -> Result<(&Access, &Access), String> {
    let Some(Op::Gather(gather)) = region.anchor.op() else {
        return Err("the anchor gathers nothing".to_owned());
    };
    let (table, indices) = (&region.operands[0], &region.operands[1]);
    if indices.shape.contains(&0) {
        return Err("the result is empty".to_owned());
    }
    if gather.axis != 0 || !table.dtype.is_float() || table.shape.contains(&0) {
        return Err("it does not gather along the first axis of floats".to_owned());
    }
    Ok((table, indices))
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let (table, indices) = suited(&region)?;
    let [block, ..] = parameters;
    let count: usize = indices.shape.iter().product();
    let axes = Axes {
        rows: indices.shape.clone(),
        columns: table.shape[1..].to_vec(),
        ..Axes::default()
    };
    let columns: usize = axes.columns.iter().product();
    let read = |access, axes: Axes| View::read(access, &axes, axes.walk(), Vec::new());
    let whole = Axes {
        rows: vec![table.shape[0]],
        ..axes.clone()
    };
    let list = Axes {
        columns: Vec::new(),
        ..axes.clone()
    };
    let domain = Domain::identity(axes, None);
    let tile = TileId(0);
    Ok(BlockProgram {
        program: "gather",
        region: region.id,
        batch: 1,
        rows: count,
        columns,
        block: [block, columns],
        tiles: vec![Tile::shared("rows", block, columns)],
        views: vec![read(table, whole), read(indices, list)],
        outputs: outputs(region, &domain, 1)?,
        body: vec![
            Step::Gather {
                tile,
                table: 0,
                indices: 1,
            },
            Step::store(tile),
        ],
    })
}
