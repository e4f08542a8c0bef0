//! Attention of 16-bit factors by whole warps, for targets that have them.
//!
//! Takes the steps of attention, gives the accumulator as fragments. A warp has 16 queries and all
//! keys of a part, so that what softmax keeps of a row is known to the four invocations that hold
//! it, and weights become the left factor of the second product where they are. Sums are f32.
//!
//! Source: Dao 2023 (arXiv 2307.08691), sections 3.1 and 3.3.

use compiler::kernel::{Binary, Builder, Half, Memory, Unary, Value, WARP};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Step, TileId};

use super::Blocks;
use super::softmax::Scaling;
use super::warps::{COLUMNS, DEPTH, Near, ROWS, WarpLayout};
use crate::gpu::expand::functions::{self, packed};

/// Fragments of scores and of the result that an invocation holds at most.
const FRAGMENTS_MAX: usize = 36;

/// How warps share a block of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flash {
    half: Half,
    tiles: Tiles,
    /// Where queries, keys and values are near.
    queries: Near,
    keys: Near,
    values: Near,
    /// Fragments of scores, and of the result.
    fragments: [usize; 2],
    warps: usize,
}

/// The tiles of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tiles {
    queries: TileId,
    keys: TileId,
    values: TileId,
    scores: TileId,
    result: TileId,
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

impl Flash {
    /// The layout for a program; `None` where quads compute it.
    pub(super) fn of(program: &BlockProgram, limits: &Limits) -> Option<Flash> {
        if limits.warp != WARP {
            return None;
        }
        let tiles = attention(program)?;
        let half = WarpLayout::half(program.views.get(..3)?)?;
        let [queries, keys, result] =
            [tiles.queries, tiles.keys, tiles.result].map(|tile| program.tile(tile));
        let warps = queries.rows / ROWS;
        let part = keys.rows.next_multiple_of(DEPTH);
        let fragments = [part / COLUMNS, result.columns / COLUMNS];
        let is_whole = queries.rows.is_multiple_of(ROWS)
            && result.columns.is_multiple_of(COLUMNS)
            && (1..=8).contains(&warps)
            && fragments[0] + fragments[1] <= FRAGMENTS_MAX;
        if !is_whole {
            return None;
        }
        let width = queries.columns.next_multiple_of(DEPTH);
        let near = |first: usize, rows: usize, deep: usize| Near { first, rows, deep };
        let queries = near(0, queries.rows, width);
        let keys = near(queries.end(), part, width);
        let values = near(keys.end(), result.columns, part);
        let flash = Flash {
            half,
            tiles,
            queries,
            keys,
            values,
            fragments,
            warps,
        };
        (flash.words() * 4 <= limits.shared_bytes_max as usize).then_some(flash)
    }

    /// Words of shared memory.
    pub(super) fn words(&self) -> usize {
        self.values.end()
    }

    /// How the result is shared.
    pub(super) fn layout(&self) -> WarpLayout {
        WarpLayout::of_rows(self.half, self.warps, self.fragments[1])
    }

    /// Fragments of a tile that an invocation holds.
    pub(super) fn values(&self, tile: TileId) -> usize {
        self.fragments[usize::from(tile != self.tiles.scores)]
    }

    /// Whether a tile is the queries, which are brought near once.
    pub(super) fn is_queries(&self, tile: TileId) -> bool {
        tile == self.tiles.queries
    }
}

/// What a row keeps: of the upper row of an invocation's fragments, then of the lower one.
pub(super) fn kept(b: &mut Builder, number: f32) -> Vec<Value> {
    let number = b.f32(number);
    vec![number; 2]
}

/// A number of the upper row for its two columns, one of the lower row for its two.
fn by_rows(b: &mut Builder, rows: &[Value]) -> Value {
    b.compose(&[rows[0], rows[0], rows[1], rows[1]])
}

/// `function` over the four invocations that hold a row.
fn across_row(b: &mut Builder, function: Binary, x: Value) -> Value {
    [1, 2].into_iter().fold(x, |x, bits| {
        let other = b.shuffle(x, bits);
        b.binary(function, x, other)
    })
}

impl Blocks<'_, '_> {
    /// Brings the queries near.
    pub(super) fn stage_queries(&mut self, flash: Flash) {
        let tile = flash.tiles.queries;
        self.stage_pairs(flash.half, tile, self.copied[&tile], flash.queries);
    }

    /// Scores, or what weights make of values.
    pub(super) fn mma_of_attention(&mut self, flash: Flash, acc: TileId) {
        if acc == flash.tiles.scores {
            for (tile, near) in [
                (flash.tiles.keys, flash.keys),
                (flash.tiles.values, flash.values),
            ] {
                self.stage_pairs(flash.half, tile, self.copied[&tile], near);
            }
            self.x.b.barrier();
            self.scores(flash);
        } else {
            self.weigh(flash);
            self.x.b.barrier();
        }
    }

    fn scores(&mut self, flash: Flash) {
        let seat = self.seat.expect("warps have seats");
        let shared = Memory::Shared(self.shared);
        let b = &mut self.x.b;
        let left = flash.queries.line(b, &seat, Some(seat.warp[0]), ROWS);
        let right = flash.keys.line(b, &seat, None, COLUMNS);
        let values = self.values.get_mut(&flash.tiles.scores);
        let values = values.expect("scores were zeroed");
        for part in 0..flash.queries.deep / DEPTH {
            let query = flash.queries.left(b, (shared, left), part, 0);
            for (number, value) in values.iter_mut().enumerate() {
                let key = flash.keys.right(b, (shared, right), part, number * COLUMNS);
                *value = b.mma(flash.half, [query, key, *value]);
            }
        }
    }

    fn weigh(&mut self, flash: Flash) {
        let seat = self.seat.expect("warps have seats");
        let shared = Memory::Shared(self.shared);
        let weights = self.values[&flash.tiles.scores].clone();
        let b = &mut self.x.b;
        let right = flash.values.line(b, &seat, None, COLUMNS);
        let values = self.values.get_mut(&flash.tiles.result);
        let values = values.expect("the result was zeroed");
        for part in 0..flash.values.deep / DEPTH {
            // Two fragments of weights are one of a left factor: rows and columns lie alike.
            let words = [(0, 0), (0, 2), (1, 0), (1, 2)].map(|(second, first)| {
                let weight = weights[2 * part + second];
                let pair = [first, first + 1].map(|lane| b.extract(weight, lane));
                packed(b, flash.half, pair)
            });
            let left = b.compose(&words);
            for (number, value) in values.iter_mut().enumerate() {
                let factor = flash
                    .values
                    .right(b, (shared, right), part, number * COLUMNS);
                *value = b.mma(flash.half, [left, factor, *value]);
            }
        }
    }

    /// See [`Step::Online`]: scores become weights, and what was summed before is scaled.
    pub(super) fn online_by_warps(&mut self, flash: Flash, scaling: Scaling) {
        let scores = self.scaled_fragments(flash, scaling);
        let online = self.online.clone().expect("the loop made it");
        let b = &mut self.x.b;
        let of_row = |b: &mut Builder, value: Value, row: usize| {
            [0, 1].map(|column| b.extract(value, (2 * row + column) as u8))
        };
        let mut next = online.clone();
        let mut factors = Vec::new();
        for row in 0..2 {
            let mut most: Option<Value> = None;
            for (score, _) in &scores {
                for own in of_row(b, *score, row) {
                    most = Some(b.joined(Binary::Max, most, own));
                }
            }
            let most = across_row(b, Binary::Max, most.expect("a row has columns"));
            next.largest[row] = b.binary(Binary::Max, online.largest[row], most);
            let change = b.binary(Binary::Sub, online.largest[row], next.largest[row]);
            factors.push(b.unary(Unary::Exp, change));
        }
        let largest = by_rows(b, &next.largest);
        let mut weights = Vec::with_capacity(scores.len());
        for (score, keep) in scores {
            let below = b.binary(Binary::Sub, score, largest);
            let mut weight = b.unary(Unary::Exp, below);
            if let Some(keep) = keep {
                weight = b.mul(weight, keep);
            }
            weights.push(weight);
        }
        for (row, factor) in factors.iter().enumerate() {
            let mut sum: Option<Value> = None;
            for weight in &weights {
                for own in of_row(b, *weight, row) {
                    sum = Some(b.joined(Binary::Add, sum, own));
                }
            }
            let sum = sum.expect("a row has columns");
            next.sums[row] = b.fma(online.sums[row], *factor, sum);
        }
        self.values.insert(flash.tiles.scores, weights);
        self.online = Some(next);
        self.scale_fragments(flash, &factors);
    }

    /// See [`Step::Normalize`].
    pub(super) fn normalize_by_warps(&mut self, flash: Flash) {
        let online = self.online.clone().expect("the loop over keys made it");
        let b = &mut self.x.b;
        let (one, least) = (b.f32(1.0), b.f32(f32::MIN_POSITIVE));
        let factors = online.sums.iter().map(|sum| {
            let sum = across_row(b, Binary::Add, *sum);
            // Without any key the weighted sum is 0, whatever it is divided by.
            let sum = b.binary(Binary::Max, sum, least);
            b.binary(Binary::Div, one, sum)
        });
        let factors: Vec<Value> = factors.collect();
        self.scale_fragments(flash, &factors);
    }

    /// Multiplies the rows of the result by one number each.
    fn scale_fragments(&mut self, flash: Flash, factors: &[Value]) {
        let b = &mut self.x.b;
        let factor = by_rows(b, factors);
        let values = self.values.get_mut(&flash.tiles.result);
        for value in values.expect("the result was zeroed") {
            *value = b.mul(*value, factor);
        }
    }

    /// Scaled scores, and for each 1 where the key is seen and 0 where it is not, if that is ever
    /// so.
    fn scaled_fragments(&mut self, flash: Flash, scaling: Scaling) -> Vec<(Value, Option<Value>)> {
        let seat = self.seat.expect("warps have seats");
        let part = self.program.tile(flash.tiles.keys).rows;
        let sight = self.sight(scaling, part < flash.keys.rows);
        let first = self.depth.expect("scores lie in the loop over keys").0;
        let values = self.values[&flash.tiles.scores].clone();
        let (program, origin) = (self.program, self.origins[0]);
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let scale = functions::number(b, scaling.scale, 4);
        let row = b.times(seat.warp[0], ROWS as i32);
        let row = b.add(row, seat.group);
        let row = b.add(row, origin);
        let queries = [row, b.plus(row, 8)];
        let pair = b.times(seat.in_group, 2);
        let pair = b.add(pair, first);
        let fragments = values.iter().enumerate().map(|(number, value)| {
            let score = b.mul(*value, scale);
            let places = (0..4).map(|lane| {
                let key = (number * COLUMNS + lane % 2) as i32;
                (queries[lane / 2], key)
            });
            let places: Vec<(Value, Value)> = places
                .map(|(query, key)| (query, b.plus(pair, key)))
                .collect();
            sight.apply(b, (arguments, program), score, &places)
        });
        fragments.collect()
    }
}
