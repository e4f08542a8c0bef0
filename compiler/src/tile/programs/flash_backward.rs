//! `flash_backward`: the gradient of attention, whose weights never exist at once.
//!
//! Takes the operator, returns programs in which a block has one head: for each part of the keys
//! all queries pass by in blocks, weights come anew from the logarithms of their sums, and five
//! products share them. Gradients of a part of the keys are complete when the queries have passed;
//! those of the queries grow with each part, in the order of the keys.
//!
//! Source: Dao 2023 (arXiv 2307.08691), algorithm 2.

use crate::ops::{AttentionGradient, Op};
use crate::region::Region;
use crate::target::Target;
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::region_ref::RegionRef;
use crate::tile::scores::Scores;
use crate::tile::view::View;
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Queries of a block at most, as multiples of a fragment's columns: three tiles of scores are near
/// at a time, and copies of queries are kept whatever their number.
const QUERIES: [usize; 3] = [2, 4, 8];

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// Returns a candidate for each block of queries and keys.
///
/// # Errors
/// With the reason, when the anchor is another operator, there are no scores, or its epilogue is
/// not element by element.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    program(region, [1, 1, 1])?;
    let (_, scores) = suited(&region)?;
    let candidate = |block: [usize; 2]| {
        let seconds = cost::attention_gradient(&scores, block, target);
        Candidate::new([block[0], block[1], 1], seconds)
    };
    let blocks = scores.blocks(&QUERIES, 1, target);
    Ok(blocks.into_iter().map(candidate).collect())
}

fn suited(region: &Region) -> Result<(&AttentionGradient, Scores), String> {
    let Some(Op::AttentionGradient(gradient)) = region.anchor.op() else {
        return Err("the anchor is not a gradient of attention".to_owned());
    };
    let x = &region.operands;
    let scores = Scores::of(&x[0], &x[1], Some(&x[2]));
    scores.exist()?;
    match scores.result {
        0 => Err("there are no values".to_owned()),
        _ => Ok((gradient, scores)),
    }
}

/// The operands, one view each, then matrices the other way round, then the mask; and the position
/// of its view.
fn views(region: &Region, scores: &Scores) -> (Vec<View>, Option<usize>) {
    let x = &region.operands;
    let Scores {
        queries,
        keys,
        width,
        result,
        ..
    } = *scores;
    let sums = scores.axes(queries, 1);
    let index = (0..3).map(|axis| sums.index(axis)).collect();
    let mut views = vec![
        scores.matrix(&x[0], queries, width),
        scores.matrix(&x[1], keys, width),
        scores.matrix(&x[2], keys, result),
        View::read(&x[3], &sums, index, Vec::new()),
        scores.matrix(&x[4], queries, result),
        scores.matrix(&x[5], queries, result),
        scores.transposed(&x[0], width, queries),
        scores.transposed(&x[1], width, keys),
        scores.transposed(&x[5], result, queries),
    ];
    let mask = scores.mask(region, 6, &mut views);
    (views, mask)
}

/// The tiles of a block of `[queries, keys]`, in the order of their numbers: factors of a product
/// come before what it is added to.
fn tiles(scores: &Scores, [block, part]: [usize; 2]) -> Vec<Tile> {
    let (width, result) = (scores.width, scores.result);
    let rows = scores.queries + 2 * scores.keys;
    vec![
        Tile::shared("q", block, width),
        Tile::shared("k", part, width),
        Tile::shared("v", part, result),
        Tile::shared("dr", block, result),
        Tile::shared("qt", width, block),
        Tile::shared("kt", width, part),
        Tile::shared("drt", result, block),
        Tile::fragment("s", part, block),
        Tile::fragment("c", part, block),
        Tile::fragment("ct", block, part),
        Tile::fragment("dq", block, width),
        Tile::fragment("dk", part, width),
        Tile::fragment("dv", part, result),
        Tile::fragment("o", rows, width.max(result)),
    ]
}

/// What a block does with one head, in blocks of `[queries, keys]`.
fn body(
    gradient: &AttentionGradient,
    scores: &Scores,
    [block, part]: [usize; 2],
    mask: Option<usize>,
) -> Vec<Step> {
    let numbers = std::array::from_fn(|number| TileId(number as u32));
    let [q, k, v, dr, qt, kt, drt, s, c, ct, dq, dk, dv, o]: [TileId; 14] = numbers;
    let zero = |tile| Step::Zero { tile };
    let add = |from, first, rows| Step::AddRows {
        acc: o,
        from,
        first,
        rows,
    };
    let (queries, keys) = (scores.queries, scores.keys);
    let (zeroth, query, key) = (Origin::Zero, Origin::Rows, Origin::Depth);
    let inner = vec![
        Step::copy(q, 0, query, zeroth),
        Step::copy(dr, 5, query, zeroth),
        Step::copy(qt, 6, zeroth, query),
        Step::copy(drt, 8, zeroth, query),
        zero(s),
        Step::mma(s, k, q),
        zero(c),
        Step::mma(c, v, dr),
        Step::Weigh {
            scores: s,
            changes: c,
            log_sum: 3,
            results: [4, 5],
            scale: gradient.scale,
            causal: gradient.causal,
            mask,
        },
        Step::mma(dv, s, drt),
        Step::mma(dk, c, qt),
        Step::Transpose { from: c, to: ct },
        zero(dq),
        Step::mma(dq, ct, kt),
        add(dq, 0, query),
    ];
    let outer = vec![
        Step::copy(k, 1, key, zeroth),
        Step::copy(v, 2, key, zeroth),
        Step::copy(kt, 7, zeroth, key),
        zero(dk),
        zero(dv),
        Step::repeat(query, queries, block, 2, inner),
        add(dk, queries, key),
        add(dv, queries + keys, key),
    ];
    vec![
        zero(o),
        Step::repeat(key, keys, part, 1, outer),
        Step::store(o),
    ]
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    [block, part, _]: Parameters,
) -> Result<BlockProgram, String> {
    let (gradient, scores) = suited(&region)?;
    let rows = scores.queries + 2 * scores.keys;
    let columns = scores.width.max(scores.result);
    let domain = Domain::identity(scores.axes(rows, columns), Some(3));
    let (views, mask) = views(&region, &scores);
    Ok(BlockProgram {
        program: "flash_backward",
        region: region.id,
        batch: scores.heads(),
        rows,
        columns,
        block: [rows, columns],
        tiles: tiles(&scores, [block, part]),
        outputs: outputs(region, &domain, 1)?,
        views,
        body: body(gradient, &scores, [block, part], mask),
    })
}
