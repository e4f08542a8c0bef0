//! How whole warps share a block of attention of 16-bit factors, for targets that have them.
//!
//! Takes a block program, gives which fragments an invocation holds and where queries, keys and
//! values are near. A warp has 16 queries and all keys of a part, so that what softmax keeps of a
//! row is known to the four invocations that hold it. Where the result is too wide for one warp,
//! several compute the same scores, and each has some of its columns. It expands no step.

use compiler::kernel::{Builder, CHUNK_BYTES, Half, Value, WARP};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Step, TileId};

use super::near::{CHUNK, Near};
use super::warp_layout::{COLUMNS, DEPTH, ROWS, WARPS_MAX, WarpLayout};

/// Fragments of scores and of the result that an invocation holds at most: beside these 88 registers
/// it needs about as many for addresses and for fragments of factors, of 255.
const FRAGMENTS_MAX: usize = 22;

/// How warps share a block of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlashLayout {
    pub(crate) half: Half,
    pub(crate) tiles: Tiles,
    /// Where queries, keys and values are near.
    queries: Near,
    pub(crate) keys: Near,
    values: Near,
    /// Fragments of scores, and of the result, that a warp has.
    fragments: [usize; 2],
    /// Warps along queries, and along columns of the result.
    warps: [usize; 2],
}

/// The tiles of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    pub(crate) queries: TileId,
    pub(crate) keys: TileId,
    pub(crate) values: TileId,
    pub(crate) scores: TileId,
    pub(crate) result: TileId,
}

/// The tiles of a program that is attention without gradients.
fn attention(program: &BlockProgram) -> Option<Tiles> {
    let [
        Step::Copy { .. },
        Step::Zero { .. },
        Step::Loop { body, .. },
        Step::Normalize { .. },
        Step::Store { .. },
    ] = &program.body[..]
    else {
        return None;
    };
    let mut products = body.iter().filter_map(|step| match step {
        Step::Mma { acc, left, right } => Some([*acc, *left, *right]),
        _ => None,
    });
    let ([scores, queries, keys], [result, weights, values]) = (products.next()?, products.next()?);
    let is_all = products.next().is_none() && weights == scores;
    is_all.then_some(Tiles {
        queries,
        keys,
        values,
        scores,
        result,
    })
}

impl FlashLayout {
    /// The layout for a program; `None` where quads compute it.
    pub(crate) fn of(program: &BlockProgram, limits: &Limits) -> Option<FlashLayout> {
        if limits.warp != WARP {
            return None;
        }
        let tiles = attention(program)?;
        let half = WarpLayout::half(program.views.get(..3)?)?;
        let [queries, keys, result] =
            [tiles.queries, tiles.keys, tiles.result].map(|tile| program.tile(tile));
        // Rows and columns are whole fragments, a part of which may be computed in vain.
        let rows = queries.rows.next_multiple_of(ROWS);
        let columns = result.columns.next_multiple_of(COLUMNS);
        let part = keys.rows.next_multiple_of(DEPTH);
        let scores = part / COLUMNS;
        let mut ways = [1, 2, 4, 8].into_iter().filter_map(|along_columns| {
            let warps = [rows / ROWS, along_columns];
            let own = columns / COLUMNS / along_columns;
            let fits = warps[0] * warps[1] <= WARPS_MAX
                && (columns / COLUMNS).is_multiple_of(along_columns)
                && scores + own <= FRAGMENTS_MAX;
            fits.then_some((warps, own))
        });
        let (warps, own) = ways.next()?;
        let fragments = [scores, own];
        let width = queries.columns.next_multiple_of(CHUNK);
        let queries = Near::new(0, rows, width);
        let keys = Near::new(queries.end(), part, width);
        let values = Near::new(keys.end(), columns, part);
        let flash = FlashLayout {
            half,
            tiles,
            queries,
            keys,
            values,
            fragments,
            warps,
        };
        let bytes = values.end() * CHUNK_BYTES as usize;
        (bytes <= limits.shared_bytes_max as usize).then_some(flash)
    }

    /// How the result is shared.
    pub(crate) fn layout(&self) -> WarpLayout {
        WarpLayout::of_attention(self.half, self.warps, self.fragments[1])
    }

    /// Fragments of a tile that an invocation holds.
    pub(crate) fn held(&self, tile: TileId) -> usize {
        self.fragments[usize::from(tile != self.tiles.scores)]
    }

    /// What is brought near once.
    pub(crate) fn once(&self) -> (TileId, Near) {
        (self.tiles.queries, self.queries)
    }

    /// What is brought near for each part of the keys.
    pub(crate) fn each(&self) -> [(TileId, Near); 2] {
        [
            (self.tiles.keys, self.keys),
            (self.tiles.values, self.values),
        ]
    }
}

/// What a row keeps: of the upper row of an invocation's fragments, then of the lower one.
pub(crate) fn kept(b: &mut Builder, number: f32) -> Vec<Value> {
    let number = b.f32(number);
    vec![number; 2]
}
