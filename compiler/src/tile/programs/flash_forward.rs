//! `flash_forward`: attention whose scores never exist at once.
//!
//! Takes attention, gives programs in which a block of queries meets the keys in parts: the online
//! softmax keeps the maximum and the sum of what was seen. Head widths stay what they are.
//!
//! Source: Dao 2023 (arXiv 2307.08691), algorithm 1.

use crate::ops::{Attention, Op};
use crate::region::{Access, Anchor, Index, Region, RegionId, Regions};
use crate::target::{Blocks, Target};
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the anchor is no attention or its epilogue is not element by element.
pub(super) fn candidates(
    regions: &Regions,
    region: &Region,
    target: &Target,
) -> Result<Vec<Candidate>, String> {
    // An epilogue in another order is refused here, not when the program is built.
    program(regions, RegionId(0), region, [1, 1, 1])?;
    let (_, sizes) = suited(region)?;
    let Sizes {
        batch,
        queries,
        keys,
        width,
        result,
    } = sizes;
    let heads = batch.iter().product();
    let mut found = Vec::new();
    let Blocks { row_unit, .. } = target.blocks;
    for most in target
        .blocks
        .queries
        .iter()
        .map(|count| count * target.fragment[1])
    {
        for &part in target.blocks.keys {
            let block = even(queries, most, row_unit.min(queries));
            let part = even(keys, part, row_unit.min(keys.max(1)));
            if !is_near([block, part, width, result], target) {
                continue;
            }
            found.push(Candidate {
                seconds: cost::attention(
                    [heads, queries, keys, width, result],
                    [block, part],
                    target,
                ),
                added_weight_bytes: 0,
                parameters: [block, part, 1],
            });
        }
    }
    match found.is_empty() {
        true => Err("no block of queries and keys stays near".to_owned()),
        false => Ok(found),
    }
}

/// Whether a block fits where accumulators stay in registers: they themselves, and beside the
/// weights of its scores four depths of both factors, or partial sums of the scores' rows.
fn is_near([block, part, width, result]: [usize; 4], target: &Target) -> bool {
    let Some(most) = target.blocks.registers else {
        return true;
    };
    let quads = |extent: usize| extent.next_multiple_of(4);
    let weights = (quads(block) + 1) * quads(part) * size_of::<f32>();
    let factors = 4 * (quads(block) + quads(part)).max(quads(result)) * size_of::<f32>();
    let sums = quads(block) * quads(part);
    let bytes = weights + 4 * quads(block) + factors.max(sums);
    width > 0 && quads(block) * quads(result) <= most && bytes <= target.shared_bytes
}

struct Sizes {
    batch: [usize; 2],
    queries: usize,
    keys: usize,
    /// Of queries and keys.
    width: usize,
    /// Of values.
    result: usize,
}

fn suited(region: &Region) -> Result<(&Attention, Sizes), String> {
    let Anchor::Op {
        op: Op::Attention(attention),
        ..
    } = &region.anchor
    else {
        return Err("the anchor is no attention".to_owned());
    };
    let shapes = [0, 1, 2].map(|operand| &region.operands[operand].shape);
    let [batch, heads, queries, width] = [0, 1, 2, 3].map(|axis| shapes[0][axis]);
    let (keys, result) = (shapes[1][2], shapes[2][3]);
    if [batch, heads, queries, result].contains(&0) {
        return Err("the result is empty".to_owned());
    }
    let sizes = Sizes {
        batch: [batch, heads],
        queries,
        keys,
        width,
        result,
    };
    Ok((attention, sizes))
}

/// `access` with its last two axes as rows and columns, or the other way round.
pub(super) fn matrix(
    access: &Access,
    batch: &[usize; 2],
    [rows, columns]: [usize; 2],
    transposed: bool,
) -> View {
    let axes = Axes {
        batch: batch.to_vec(),
        planes: Vec::new(),
        rows: vec![rows],
        columns: vec![columns],
    };
    let own = match transposed {
        true => [0, 1, 3, 2],
        false => [0, 1, 2, 3],
    };
    // A mask may stretch along any axis, or lack the first ones.
    let missing = own.len() - access.shape.len();
    let index = access.shape.iter().enumerate();
    let index = index.map(|(axis, &extent)| match extent {
        1 => Index::constant(0),
        _ => axes.index(own[axis + missing]),
    });
    View::read(access, &axes, index.collect(), Vec::new())
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
    let (attention, sizes) = suited(region)?;
    let [block, part, _] = parameters;
    let axes = Axes {
        batch: sizes.batch.to_vec(),
        planes: Vec::new(),
        rows: vec![sizes.queries],
        columns: vec![sizes.result],
    };
    let index = |axes: &Axes| ((0..4).map(|axis| axes.index(axis)).collect(), Vec::new());
    let domain = Domain {
        axes,
        column: Some(3),
        index: &index,
    };
    let x = &region.operands;
    let (queries, keys) = (sizes.queries, sizes.keys);
    let mut views = vec![
        matrix(&x[0], &sizes.batch, [queries, sizes.width], false),
        matrix(&x[1], &sizes.batch, [keys, sizes.width], false),
        matrix(&x[2], &sizes.batch, [sizes.result, keys], true),
    ];
    let mask = (region.anchor_operands() > 3).then(|| {
        views.push(matrix(&x[3], &sizes.batch, [queries, keys], false));
        3
    });
    let tile = |name, scope, rows, columns| Tile {
        name,
        scope,
        planes: 1,
        rows,
        columns,
    };
    let [q, k, v, s, o] = [0, 1, 2, 3, 4].map(TileId);
    let copy = |tile, view, rows, columns| Step::Copy {
        tile,
        view,
        rows,
        columns,
        transform: None,
    };
    let body = vec![
        copy(k, 1, Origin::Depth, Origin::Zero),
        copy(v, 2, Origin::Zero, Origin::Depth),
        Step::Zero { tile: s },
        Step::Mma {
            acc: s,
            left: q,
            right: k,
        },
        Step::Online {
            scores: s,
            acc: o,
            scale: attention.scale,
            causal: attention.causal,
            mask,
        },
        Step::Mma {
            acc: o,
            left: s,
            right: v,
        },
    ];
    Ok(BlockProgram {
        program: "flash_forward",
        region: id,
        batch: sizes.batch.iter().product(),
        rows: queries,
        columns: sizes.result,
        block: [block, sizes.result],
        tiles: vec![
            tile("q", Scope::Shared, block, sizes.width),
            tile("k", Scope::Shared, part, sizes.width),
            tile("v", Scope::Shared, sizes.result, part),
            tile("s", Scope::Fragment, block, part),
            tile("o", Scope::Fragment, block, sizes.result),
        ],
        views,
        outputs: outputs(regions, region, &domain, 1)?,
        body: vec![
            copy(q, 0, Origin::Rows, Origin::Zero),
            Step::Zero { tile: o },
            Step::Loop {
                over: Origin::Depth,
                extent: keys,
                step: part,
                stages: 2,
                body,
            },
            Step::Normalize { acc: o },
            Step::Store {
                tile: Some(o),
                transform: None,
            },
        ],
    })
}
