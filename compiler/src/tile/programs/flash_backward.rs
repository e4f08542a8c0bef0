//! `flash_backward`: the gradient of attention, whose weights never exist at once.
//!
//! Takes the operator, gives programs in which a block has one head: for each part of the keys all
//! queries pass by in blocks, weights come anew from the logarithms of their sums, and five
//! products share them. Gradients of a part of the keys are complete when the queries have passed;
//! those of the queries grow with each part, in the order of the keys.
//!
//! Source: Dao 2023 (arXiv 2307.08691), algorithm 2.

use crate::ops::{AttentionGradient, Op};
use crate::region::{Access, Anchor, Region, RegionId, Regions};
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::flash_forward::matrix;
use crate::tile::programs::gemm::even;
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// Queries of a block at most, as multiples of a fragment's columns: three tiles of scores are near
/// at a time, and copies of queries are kept whatever their number.
const QUERIES: [usize; 3] = [2, 4, 8];

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

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
    for most in QUERIES {
        for &part in target.blocks.keys {
            let block = even(sizes.queries, most * target.fragment[1], 1);
            let part = even(sizes.keys, part, 1);
            let widths = [sizes.width, sizes.result];
            let extents = [heads, sizes.queries, sizes.keys];
            found.push(Candidate {
                seconds: cost::attention_gradient(extents, widths, [block, part], target),
                added_weight_bytes: 0,
                parameters: [block, part, 1],
            });
        }
    }
    Ok(found)
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

fn suited(region: &Region) -> Result<(&AttentionGradient, Sizes), String> {
    let Anchor::Op {
        op: Op::AttentionGradient(gradient),
        ..
    } = &region.anchor
    else {
        return Err("the anchor is no gradient of attention".to_owned());
    };
    let shapes = [0, 1, 2].map(|operand| &region.operands[operand].shape);
    let [batch, heads, queries, width] = [0, 1, 2, 3].map(|axis| shapes[0][axis]);
    let (keys, result) = (shapes[1][2], shapes[2][3]);
    if [batch, heads, queries, keys, width, result].contains(&0) {
        return Err("there are no scores".to_owned());
    }
    let sizes = Sizes {
        batch: [batch, heads],
        queries,
        keys,
        width,
        result,
    };
    Ok((gradient, sizes))
}

/// The operands, one view each, then matrices the other way round, then the mask.
fn views(region: &Region, sizes: &Sizes) -> Vec<View> {
    let x = &region.operands;
    let Sizes {
        batch,
        queries,
        keys,
        width,
        result,
    } = *sizes;
    let straight = |access: &Access, rows, columns| matrix(access, &batch, [rows, columns], false);
    let turned = |access: &Access, rows, columns| matrix(access, &batch, [rows, columns], true);
    let sums = Axes {
        batch: batch.to_vec(),
        rows: vec![queries],
        columns: vec![1],
        ..Axes::default()
    };
    let index = (0..3).map(|axis| sums.index(axis)).collect();
    let mut views = vec![
        straight(&x[0], queries, width),
        straight(&x[1], keys, width),
        straight(&x[2], keys, result),
        View::read(&x[3], &sums, index, Vec::new()),
        straight(&x[4], queries, result),
        straight(&x[5], queries, result),
        turned(&x[0], width, queries),
        turned(&x[1], width, keys),
        turned(&x[5], result, queries),
    ];
    if region.anchor_operands() > 6 {
        views.push(straight(&x[6], queries, keys));
    }
    views
}

/// The tiles of a block of `[queries, keys]`, in the order of their numbers: factors of a product
/// come before what it is added to.
fn tiles(sizes: &Sizes, [block, part]: [usize; 2]) -> Vec<Tile> {
    let shared = |name, rows, columns| (Scope::Shared, name, rows, columns);
    let fragment = |name, rows, columns| (Scope::Fragment, name, rows, columns);
    let (width, result) = (sizes.width, sizes.result);
    let rows = sizes.queries + 2 * sizes.keys;
    let tiles = [
        shared("q", block, width),
        shared("k", part, width),
        shared("v", part, result),
        shared("dr", block, result),
        shared("qt", width, block),
        shared("kt", width, part),
        shared("drt", result, block),
        fragment("s", part, block),
        fragment("c", part, block),
        fragment("ct", block, part),
        fragment("dq", block, width),
        fragment("dk", part, width),
        fragment("dv", part, result),
        fragment("o", rows, width.max(result)),
    ];
    let tile = |(scope, name, rows, columns)| Tile {
        name,
        scope,
        planes: 1,
        rows,
        columns,
    };
    tiles.map(tile).to_vec()
}

/// What a block does with one head, in blocks of `[queries, keys]`.
fn body(
    gradient: &AttentionGradient,
    sizes: &Sizes,
    [block, part]: [usize; 2],
    mask: Option<usize>,
) -> Vec<Step> {
    let numbers = std::array::from_fn(|number| TileId(number as u32));
    let [q, k, v, dr, qt, kt, drt, s, c, ct, dq, dk, dv, o]: [TileId; 14] = numbers;
    let copy = |tile, view, rows, columns| Step::Copy {
        tile,
        view,
        rows,
        columns,
        transform: None,
    };
    let product = |acc, left, right| Step::Mma { acc, left, right };
    let zero = |tile| Step::Zero { tile };
    let add = |from, first, rows| Step::AddRows {
        acc: o,
        from,
        first,
        rows,
    };
    let (zeroth, query, key) = (Origin::Zero, Origin::Rows, Origin::Depth);
    let inner = vec![
        copy(q, 0, query, zeroth),
        copy(dr, 5, query, zeroth),
        copy(qt, 6, zeroth, query),
        copy(drt, 8, zeroth, query),
        zero(s),
        product(s, k, q),
        zero(c),
        product(c, v, dr),
        Step::Weigh {
            scores: s,
            changes: c,
            log_sum: 3,
            results: [4, 5],
            scale: gradient.scale,
            causal: gradient.causal,
            mask,
        },
        product(dv, s, drt),
        product(dk, c, qt),
        Step::Transpose { from: c, to: ct },
        zero(dq),
        product(dq, ct, kt),
        add(dq, 0, query),
    ];
    let repeat = |over, extent, step, stages, body| Step::Loop {
        over,
        extent,
        step,
        stages,
        body,
    };
    let outer = vec![
        copy(k, 1, key, zeroth),
        copy(v, 2, key, zeroth),
        copy(kt, 7, zeroth, key),
        zero(dk),
        zero(dv),
        repeat(query, sizes.queries, block, 2, inner),
        add(dk, sizes.queries, key),
        add(dv, sizes.queries + sizes.keys, key),
    ];
    vec![
        zero(o),
        repeat(key, sizes.keys, part, 1, outer),
        Step::Store {
            tile: Some(o),
            transform: None,
        },
    ]
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
    let (gradient, sizes) = suited(region)?;
    let [block, part, _] = parameters;
    let rows = sizes.queries + 2 * sizes.keys;
    let columns = sizes.width.max(sizes.result);
    let axes = Axes {
        batch: sizes.batch.to_vec(),
        rows: vec![rows],
        columns: vec![columns],
        ..Axes::default()
    };
    let index = |axes: &Axes| ((0..4).map(|axis| axes.index(axis)).collect(), Vec::new());
    let domain = Domain {
        axes,
        column: Some(3),
        index: &index,
    };
    let views = views(region, &sizes);
    let mask = (region.anchor_operands() > 6).then(|| views.len() - 1);
    Ok(BlockProgram {
        program: "flash_backward",
        region: id,
        batch: sizes.batch.iter().product(),
        rows,
        columns,
        block: [rows, columns],
        tiles: tiles(&sizes, [block, part]),
        outputs: outputs(regions, region, &domain, 1)?,
        views,
        body: body(gradient, &sizes, [block, part], mask),
    })
}
