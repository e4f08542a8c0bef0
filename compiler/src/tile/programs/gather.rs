//! `gather`: rows of a table that indices name, such as the embeddings of tokens.
//!
//! Takes a gather along the first axis of a table of floats, gives the program in which a block
//! copies some rows.

use crate::ops::Op;
use crate::region::{Access, Anchor, Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Scope, Step, Tile, TileId};

/// Rows of a block at most.
const ROWS: usize = 64;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the region is no such gather.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    let (_, indices) = suited(region)?;
    let count: usize = indices.shape.iter().product();
    let share = count.div_ceil(target.threads.max(1)).min(ROWS);
    Ok(vec![Candidate {
        seconds: cost::bytes(regions, region, target),
        added_weight_bytes: 0,
        parameters: [even(count, share, 1), 1, 1],
    }])
}

fn suited(region: &Region) -> Result<(&Access, &Access), String> {
    let Anchor::Op {
        op: Op::Gather(gather),
        ..
    } = &region.anchor
    else {
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
    regions: &Regions,
    id: RegionId,
    region: &Region,
    parameters: Parameters,
) -> Result<BlockProgram, String> {
    let (table, indices) = suited(region)?;
    let [block, ..] = parameters;
    let count: usize = indices.shape.iter().product();
    let axes = Axes {
        rows: indices.shape.clone(),
        columns: table.shape[1..].to_vec(),
        ..Axes::default()
    };
    let columns: usize = axes.columns.iter().product();
    let rank = axes.rows.len() + axes.columns.len();
    let index = move |axes: &Axes| ((0..rank).map(|a| axes.index(a)).collect(), Vec::new());
    let read = |access, axes: Axes| {
        let index = (0..axes.shape().len()).map(|axis| axes.index(axis));
        View::read(access, &axes, index.collect(), Vec::new())
    };
    let whole = Axes {
        rows: vec![table.shape[0]],
        ..axes.clone()
    };
    let list = Axes {
        columns: Vec::new(),
        ..axes.clone()
    };
    let domain = Domain {
        axes,
        column: None,
        index: &index,
    };
    let tile = TileId(0);
    Ok(BlockProgram {
        program: "gather",
        region: id,
        batch: 1,
        rows: count,
        columns,
        block: [block, columns],
        tiles: vec![Tile {
            name: "rows",
            scope: Scope::Shared,
            planes: 1,
            rows: block,
            columns,
        }],
        views: vec![read(table, whole), read(indices, list)],
        outputs: outputs(regions, region, &domain, 1)?,
        body: vec![
            Step::Gather {
                tile,
                table: 0,
                indices: 1,
            },
            Step::Store {
                tile: Some(tile),
                transform: None,
            },
        ],
    })
}
