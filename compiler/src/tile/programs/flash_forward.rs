//! `flash_forward`: attention whose scores never exist at once.
//!
//! Takes attention, returns programs in which a block of queries meets the keys in parts: the
//! online softmax keeps the maximum and the sum of what was seen. Head widths stay what they are.
//!
//! Source: Dao 2023 (arXiv 2307.08691), algorithm 1.

use crate::DType;
use crate::ops::{Attention, Op};
use crate::region::{Access, Region};
use crate::target::{Blocking, Target};
use crate::tile::outputs::{Domain, outputs};
use crate::tile::programs::{Candidate, Parameters, cost};
use crate::tile::region_ref::RegionRef;
use crate::tile::scores::Scores;
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// Returns a candidate for each block of queries and keys that stays near.
///
/// # Errors
/// With the reason, when the anchor is not attention or its epilogue is not element by element.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    // An epilogue in another order is refused here, not when the program is built.
    program(region, [1, 1, 1])?;
    let (_, scores) = suited(&region)?;
    let blocks = &target.compute.blocks;
    let mut blocks = scores.blocks(blocks.queries, blocks.row_unit, target);
    blocks.retain(|block| is_near(*block, &scores, target));
    if is_narrow(&region, target) {
        let narrow = |block: &[usize; 2]| is_near_narrow(*block, &scores, target);
        let near: Vec<[usize; 2]> = blocks.iter().copied().filter(narrow).collect();
        // Where none is, products are not those of matrices.
        if !near.is_empty() {
            blocks = near;
        }
    }
    let candidate = |block: &[usize; 2]| {
        let seconds = cost::attention(&scores, *block, target);
        Candidate::new([block[0], block[1], 1], seconds)
    };
    match blocks.is_empty() {
        true => Err("no block of queries and keys stays near".to_owned()),
        false => Ok(blocks.iter().map(candidate).collect()),
    }
}

/// Whether the target multiplies matrices of the factors' type.
fn is_narrow(region: &Region, target: &Target) -> bool {
    let is_half = |access: &Access| matches!(access.dtype, DType::F16 | DType::BF16);
    target.limits.warp > 0 && region.operands.iter().take(3).all(is_half)
}

/// Whether the factors of a block stay near in 16 bits, as whole fragments.
fn is_near_narrow([block, part]: [usize; 2], scores: &Scores, target: &Target) -> bool {
    let whole = |extent: usize| extent.next_multiple_of(target.compute.fragment[0]);
    let [block, part, width, result] = [block, part, scores.width, scores.result].map(whole);
    2 * (block * width + part * (width + result)) <= target.compute.near_bytes
}

/// Whether a block fits where accumulators stay in registers: they themselves, and beside the
/// weights of its scores four depths of both factors, or partial sums of the scores' rows.
fn is_near([block, part]: [usize; 2], scores: &Scores, target: &Target) -> bool {
    match target.compute.blocking {
        Blocking::Packed { .. } => true,
        Blocking::Staged { accumulators_max } => {
            let quads = |extent: usize| extent.next_multiple_of(4);
            let result = quads(scores.result);
            let weights = (quads(block) + 1) * quads(part) * size_of::<f32>();
            let factors = 4 * (quads(block) + quads(part)).max(result) * size_of::<f32>();
            let sums = quads(block) * quads(part);
            let bytes = weights + 4 * quads(block) + factors.max(sums);
            scores.width > 0
                && quads(block) * result <= accumulators_max
                && bytes <= target.compute.near_bytes
        }
    }
}

fn suited(region: &Region) -> Result<(&Attention, Scores), String> {
    let Some(Op::Attention(attention)) = region.anchor.op() else {
        return Err("the anchor is not attention".to_owned());
    };
    let x = &region.operands;
    let scores = Scores::of(&x[0], &x[1], Some(&x[2]));
    match [scores.heads(), scores.queries, scores.result].contains(&0) {
        true => Err("the result is empty".to_owned()),
        false => Ok((attention, scores)),
    }
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    [block, part, _]: Parameters,
) -> Result<BlockProgram, String> {
    let (attention, scores) = suited(&region)?;
    let Scores {
        queries,
        keys,
        width,
        result,
        ..
    } = scores;
    let x = &region.operands;
    let mut views = vec![
        scores.matrix(&x[0], queries, width),
        scores.matrix(&x[1], keys, width),
        scores.transposed(&x[2], result, keys),
    ];
    let mask = scores.mask(&region, 3, &mut views);
    let domain = Domain::identity(scores.axes(queries, result), Some(3));
    let [q, k, v, s, o] = [0, 1, 2, 3, 4].map(TileId);
    let body = vec![
        Step::copy(k, 1, Origin::Depth, Origin::Zero),
        Step::copy(v, 2, Origin::Zero, Origin::Depth),
        Step::Zero { tile: s },
        Step::mma(s, q, k),
        Step::Online {
            scores: s,
            acc: o,
            scale: attention.scale,
            causal: attention.causal,
            mask,
        },
        Step::mma(o, s, v),
    ];
    Ok(BlockProgram {
        program: "flash_forward",
        region: region.id,
        batch: scores.heads(),
        rows: queries,
        columns: result,
        block: [block, result],
        tiles: vec![
            Tile::shared("q", block, width),
            Tile::shared("k", part, width),
            Tile::shared("v", result, part),
            Tile::fragment("s", block, part),
            Tile::fragment("o", block, result),
        ],
        views,
        outputs: outputs(region, &domain, 1)?,
        body: vec![
            Step::copy(q, 0, Origin::Rows, Origin::Zero),
            Step::Zero { tile: o },
            Step::repeat(Origin::Depth, keys, part, 2, body),
            Step::Normalize { acc: o },
            Step::store(o),
        ],
    })
}
