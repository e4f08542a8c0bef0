//! `flash_log_sum`: logarithms of the sums that attention divides by, without its values.
//!
//! Takes the operator, returns programs in which a block of queries meets the keys in parts, as in
//! [`super::flash_forward`]: what the online softmax keeps is the result.
//!
//! Source: Dao 2023 (arXiv 2307.08691), section 3.1.1.

use crate::ops::{AttentionLogSum, Op};
use crate::region::Region;
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::region_ref::RegionRef;
use crate::tile::scores::Scores;
use crate::tile::view::Axes;
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

fn suited(region: &Region) -> Result<(&AttentionLogSum, Scores), String> {
    let Some(Op::AttentionLogSum(log_sum)) = region.anchor.op() else {
        return Err("the anchor sums no weights".to_owned());
    };
    let scores = Scores::of(&region.operands[0], &region.operands[1], None);
    scores.exist()?;
    Ok((log_sum, scores))
}

/// Returns a candidate for each block of queries and keys.
///
/// # Errors
/// With the reason, when the anchor is another operator, there are no scores, or its epilogue is
/// not element by element.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    program(region, [1, 1, 1])?;
    let (_, scores) = suited(&region)?;
    let blocks = scores.blocks(target.compute.blocks.queries, 1, target);
    let candidate = |block: [usize; 2]| {
        let seconds = cost::attention(&scores, block, target);
        Candidate::new([block[0], block[1], 1], seconds)
    };
    Ok(blocks.into_iter().map(candidate).collect())
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    [block, part, _]: Parameters,
) -> Result<BlockProgram, String> {
    let (log_sum, scores) = suited(&region)?;
    let Scores {
        queries,
        keys,
        width,
        ..
    } = scores;
    let x = &region.operands;
    let mut views = vec![
        scores.matrix(&x[0], queries, width),
        scores.matrix(&x[1], keys, width),
    ];
    let mask = scores.mask(&region, 2, &mut views);
    // The result has no axis for the one column.
    let index = |axes: &Axes| ((0..3).map(|axis| axes.index(axis)).collect(), Vec::new());
    let domain = Domain::new(scores.axes(queries, 1), None, &index);
    let [q, k, s, o] = [0, 1, 2, 3].map(TileId);
    let body = vec![
        Step::copy(k, 1, Origin::Depth, Origin::Zero),
        Step::Zero { tile: s },
        Step::mma(s, q, k),
        Step::Online {
            scores: s,
            acc: o,
            scale: log_sum.scale,
            causal: log_sum.causal,
            mask,
        },
    ];
    Ok(BlockProgram {
        program: "flash_log_sum",
        region: region.id,
        batch: scores.heads(),
        rows: queries,
        columns: 1,
        block: [block, 1],
        tiles: vec![
            Tile::shared("q", block, width),
            Tile::shared("k", part, width),
            Tile::fragment("s", block, part),
            Tile::fragment("o", block, 1),
        ],
        views,
        outputs: outputs(region, &domain, 1)?,
        body: vec![
            Step::copy(q, 0, Origin::Rows, Origin::Zero),
            Step::Zero { tile: o },
            Step::repeat(Origin::Depth, keys, part, 2, body),
            Step::LogSum { acc: o },
            Step::store(o),
        ],
    })
}
