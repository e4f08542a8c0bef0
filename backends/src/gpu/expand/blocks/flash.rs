//! Attention of 16-bit factors by whole warps.
//!
//! Takes the steps of attention that [`FlashLayout`] shares, gives the accumulator as fragments.
//! Weights become the left factor of the second product where they are. Sums are f32.
//!
//! Source: Dao 2023 (arXiv 2307.08691), sections 3.1 and 3.3.

use compiler::kernel::{Binary, Builder, Unary, Value};
use compiler::tile::TileId;

use super::Blocks;
use crate::gpu::expand::flash_layout::FlashLayout;
use crate::gpu::expand::functions::{self, packed};
use crate::gpu::expand::near::{Near, Reader, Side};
use crate::gpu::expand::sight::Scaling;
use crate::gpu::expand::warp_layout::{COLUMNS, DEPTH, ROWS};

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
    /// Scores, or what weights make of values.
    pub(super) fn mma_of_attention(&mut self, flash: FlashLayout, acc: TileId) {
        match acc == flash.tiles.scores {
            true => self.scores(flash),
            false => self.weigh(flash),
        }
    }

    /// How fragments of a factor are read.
    fn reader(&mut self, (side, tile): (Side, TileId), first_row: Option<Value>) -> (Near, Reader) {
        let seat = self.seat.expect("warps have seats");
        let stages = self.stages.as_ref().expect("warps have stages");
        let near = stages.factor(tile).expect("a factor is near").near;
        // Queries are of no stage.
        let stage = match side {
            Side::Left => None,
            Side::Right => stages.at,
        };
        let shared = (side, stages.chunks);
        let reader = near.reader(&mut self.x.b, shared, seat.lane, first_row, stage);
        (near, reader)
    }

    fn scores(&mut self, flash: FlashLayout) {
        let seat = self.seat.expect("warps have seats");
        let first = self.x.b.times(seat.warp[0], ROWS as i32);
        let (near, queries) = self.reader((Side::Left, flash.tiles.queries), Some(first));
        let (_, keys) = self.reader((Side::Right, flash.tiles.keys), None);
        let b = &mut self.x.b;
        let values = self.values.get_mut(&flash.tiles.scores);
        let values = values.expect("scores were zeroed");
        for depth in (0..near.deep).step_by(DEPTH) {
            let half_deep = near.deep - depth < DEPTH;
            let query = queries.left(b, 0, depth, half_deep);
            for (number, pair) in values.chunks_mut(2).enumerate() {
                let rows = (2 * number * COLUMNS, pair.len());
                let keys = keys.right(b, rows, depth, half_deep);
                for (key, value) in keys.into_iter().zip(pair) {
                    *value = b.mma(flash.half, [query, key, *value]);
                }
            }
        }
    }

    fn weigh(&mut self, flash: FlashLayout) {
        let weights = self.values[&flash.tiles.scores].clone();
        let seat = self.seat.expect("warps have seats");
        let own = flash.held(flash.tiles.result) * COLUMNS;
        let first = self.x.b.times(seat.warp[1], own as i32);
        let (near, factors) = self.reader((Side::Right, flash.tiles.values), Some(first));
        let b = &mut self.x.b;
        let values = self.values.get_mut(&flash.tiles.result);
        let values = values.expect("the result was zeroed");
        for part in 0..near.deep / DEPTH {
            // Two fragments of weights are one of a left factor: rows and columns lie alike.
            let words = [(0, 0), (0, 2), (1, 0), (1, 2)].map(|(second, first)| {
                let weight = weights[2 * part + second];
                let pair = [first, first + 1].map(|lane| b.extract(weight, lane));
                packed(b, flash.half, pair)
            });
            let left = b.compose(&words);
            for (number, pair) in values.chunks_mut(2).enumerate() {
                let rows = (2 * number * COLUMNS, pair.len());
                let rights = factors.right(b, rows, part * DEPTH, false);
                for (right, value) in rights.into_iter().zip(pair) {
                    *value = b.mma(flash.half, [left, right, *value]);
                }
            }
        }
    }

    /// See [`Step::Online`]: scores become weights, and what was summed before is scaled.
    pub(super) fn online_by_warps(&mut self, flash: FlashLayout, scaling: Scaling) {
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
    pub(super) fn normalize_by_warps(&mut self, flash: FlashLayout) {
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
    fn scale_fragments(&mut self, flash: FlashLayout, factors: &[Value]) {
        let b = &mut self.x.b;
        let factor = by_rows(b, factors);
        let values = self.values.get_mut(&flash.tiles.result);
        for value in values.expect("the result was zeroed") {
            *value = b.mul(*value, factor);
        }
    }

    /// Scaled scores, and for each 1 where the key is seen and 0 where it is not, if that is ever
    /// so.
    fn scaled_fragments(
        &mut self,
        flash: FlashLayout,
        scaling: Scaling,
    ) -> Vec<(Value, Option<Value>)> {
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
