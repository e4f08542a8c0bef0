//! `flash_log_sum`: logarithms of the sums that attention divides by, without its values.
//!
//! Takes the operator, gives programs in which a block of queries meets the keys in parts, as in
//! [`super::flash_forward`]: what the online softmax keeps is the result.
//!
//! Source: Dao 2023 (arXiv 2307.08691), section 3.1.1.

use crate::ops::{AttentionLogSum, Op};
use crate::region::{Anchor, Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::flash_forward::matrix;
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::Axes;
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

struct Sizes {
    batch: [usize; 2],
    queries: usize,
    keys: usize,
    width: usize,
}

fn suited(region: &Region) -> Result<(&AttentionLogSum, Sizes), String> {
    let Anchor::Op {
        op: Op::AttentionLogSum(log_sum),
        ..
    } = &region.anchor
    else {
        return Err("the anchor sums no weights".to_owned());
    };
    let [batch, heads, queries, width] = [0, 1, 2, 3].map(|axis| region.operands[0].shape[axis]);
    let keys = region.operands[1].shape[2];
    if [batch, heads, queries, keys, width].contains(&0) {
        return Err("there are no scores".to_owned());
    }
    let sizes = Sizes {
        batch: [batch, heads],
        queries,
        keys,
        width,
    };
    Ok((log_sum, sizes))
}

/// See the card.
///
/// # Errors
/// With the reason, when the anchor is another operator, there are no scores, or its epilogue is
/// not element by element.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    program(regions, RegionId(0), region, [1, 1, 1])?;
    let (_, sizes) = suited(region)?;
    let heads = sizes.batch.iter().product();
    let mut found = Vec::new();
    for most in target.blocks.queries {
        for &part in target.blocks.keys {
            let block = even(sizes.queries, most * target.fragment[1], 1);
            let part = even(sizes.keys, part, 1);
            let extents = [heads, sizes.queries, sizes.keys, sizes.width, 0];
            found.push(Candidate {
                seconds: cost::attention(extents, [block, part], target),
                added_weight_bytes: 0,
                parameters: [block, part, 1],
            });
        }
    }
    Ok(found)
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
    let (log_sum, sizes) = suited(region)?;
    let [block, part, _] = parameters;
    let Sizes {
        batch,
        queries,
        keys,
        width,
    } = sizes;
    let axes = Axes {
        batch: batch.to_vec(),
        rows: vec![queries],
        columns: vec![1],
        ..Axes::default()
    };
    let index = |axes: &Axes| ((0..3).map(|axis| axes.index(axis)).collect(), Vec::new());
    let domain = Domain {
        axes,
        column: None,
        index: &index,
    };
    let x = &region.operands;
    let mut views = vec![
        matrix(&x[0], &batch, [queries, width], false),
        matrix(&x[1], &batch, [keys, width], false),
    ];
    let mask = (region.anchor_operands() > 2).then(|| {
        views.push(matrix(&x[2], &batch, [queries, keys], false));
        2
    });
    let tile = |name, scope, rows, columns| Tile {
        name,
        scope,
        planes: 1,
        rows,
        columns,
    };
    let [q, k, s, o] = [0, 1, 2, 3].map(TileId);
    let copy = |tile, view, rows| Step::Copy {
        tile,
        view,
        rows,
        columns: Origin::Zero,
        transform: None,
    };
    let body = vec![
        copy(k, 1, Origin::Depth),
        Step::Zero { tile: s },
        Step::Mma {
            acc: s,
            left: q,
            right: k,
        },
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
        region: id,
        batch: batch.iter().product(),
        rows: queries,
        columns: 1,
        block: [block, 1],
        tiles: vec![
            tile("q", Scope::Shared, block, width),
            tile("k", Scope::Shared, part, width),
            tile("s", Scope::Fragment, block, part),
            tile("o", Scope::Fragment, block, 1),
        ],
        views,
        outputs: outputs(regions, region, &domain, 1)?,
        body: vec![
            copy(q, 0, Origin::Rows),
            Step::Zero { tile: o },
            Step::Loop {
                over: Origin::Depth,
                extent: keys,
                step: part,
                stages: 2,
                body,
            },
            Step::LogSum { acc: o },
            Step::Store {
                tile: Some(o),
                transform: None,
            },
        ],
    })
}
