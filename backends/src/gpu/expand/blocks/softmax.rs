//! Online softmax: scores become weights, part of the keys by part.
//!
//! Takes an accumulator of scores, leaves weights in shared memory and scales what was summed
//! before. The largest score of a row is known to all who hold some of it; sums are each
//! invocation's own until the end.
//!
//! Source: Milakov and Gimelshein 2018 (arXiv 1805.02867), algorithm 3.

use compiler::kernel::{Binary, Memory, Unary, Value};
use compiler::tile::{Step, TileId};

use super::Blocks;
use crate::gpu::expand::fragment::{Layout, Seat};
use crate::gpu::expand::functions;
use crate::gpu::expand::sight::{Scaling, Sight};

impl Blocks<'_, '_> {
    /// See [`Step::Online`]: scores become weights, in shared memory, and what was summed before
    /// is scaled.
    pub(super) fn online(&mut self, (scores, acc): (TileId, TileId), scaling: Scaling) {
        let (layout, seat) = self.layout(scores);
        let values = self.values[&scores].clone();
        let values = self.masked(&layout, &seat, &values, scaling, scores);
        let online = self.online.clone().expect("the loop made it");
        let shared = Memory::Shared(self.shared);
        let quads = layout.own_columns();
        // The largest score of each row among the invocation's own.
        let b = &mut self.x.b;
        let mut places = Vec::new();
        for number in 0..layout.own_rows() {
            let largest: Vec<Value> = (0..4)
                .map(|row| {
                    let own = &values[(number * 4 + row) * quads..][..quads];
                    let (first, rest) = own.split_first().expect("a row has columns");
                    let most = rest
                        .iter()
                        .fold(first.0, |most, next| b.binary(Binary::Max, most, next.0));
                    functions::across(b, Binary::Max, most)
                })
                .collect();
            let largest = b.compose(&largest);
            let quad = layout.row_quad(b, &seat, number);
            let line = b.times(seat.column, layout.row_quads as i32);
            let place = b.add(line, quad);
            places.push(quad);
            b.guarded(seat.works, |b| b.store(shared, place, largest));
        }
        b.barrier();
        let mut next = online.clone();
        let mut weights: Vec<Value> = Vec::new();
        let first_row = (self.staging + self.weights) as i32;
        for (number, &place) in places.iter().enumerate() {
            let mut most = online.largest[number];
            for other in 0..layout.invocations[1] {
                let place = b.plus(place, (other * layout.row_quads) as i32);
                let seen = b.load(shared, place);
                most = b.binary(Binary::Max, most, seen);
            }
            let change = b.binary(Binary::Sub, online.largest[number], most);
            let factor = b.unary(Unary::Exp, change);
            let mut sums = Vec::new();
            for row in 0..4 {
                let largest = b.extract(most, row as u8);
                let largest = b.splat(largest, 4);
                let mut sum: Option<Value> = None;
                for quad in 0..quads {
                    let (score, keep) = values[(number * 4 + row) * quads + quad];
                    let below = b.binary(Binary::Sub, score, largest);
                    let mut weight = b.unary(Unary::Exp, below);
                    if let Some(keep) = keep {
                        weight = b.mul(weight, keep);
                    }
                    weights.push(weight);
                    sum = Some(b.joined(Binary::Add, sum, weight));
                }
                let sum = sum.expect("a row has columns");
                sums.push(functions::across(b, Binary::Add, sum));
            }
            let sums = b.compose(&sums);
            next.largest[number] = most;
            next.sums[number] = b.fma(online.sums[number], factor, sums);
            // One invocation of each row tells the others by how much sums shrink.
            let zero = b.i32(0);
            let first = b.binary(Binary::Equal, seat.column, zero);
            let first = b.joined(Binary::And, seat.works, first);
            let place = b.plus(place, first_row);
            b.when(first, |b| b.store(shared, place, factor));
        }
        for number in 0..layout.own_rows() {
            for quad in 0..quads {
                let column = layout.column_quad(b, &seat, quad);
                let column = b.times(column, 4 * layout.row_quads as i32);
                let place = b.add(column, places[number]);
                let place = b.plus(place, self.staging as i32);
                b.guarded(seat.works, |b| {
                    for lane in 0..4 {
                        let rows: Vec<Value> = (0..4)
                            .map(|row| {
                                let weight = weights[(number * 4 + row) * quads + quad];
                                b.extract(weight, lane)
                            })
                            .collect();
                        let rows = b.compose(&rows);
                        let place = b.plus(place, i32::from(lane) * layout.row_quads as i32);
                        b.store(shared, place, rows);
                    }
                });
            }
        }
        b.barrier();
        self.online = Some(next);
        self.scale_rows(acc, first_row);
    }

    /// Multiplies the rows of an accumulator by one number each, from shared memory.
    fn scale_rows(&mut self, acc: TileId, first: i32) {
        let (layout, seat) = self.layout(acc);
        let b = &mut self.x.b;
        let values = self.values.get_mut(&acc).expect("it was zeroed");
        let each = layout.planes * layout.own_columns();
        for number in 0..layout.own_rows() {
            let quad = layout.row_quad(b, &seat, number);
            let place = b.plus(quad, first);
            let factors = b.load(Memory::Shared(self.shared), place);
            for row in 0..4 {
                let factor = b.extract(factors, row as u8);
                let factor = b.splat(factor, 4);
                for value in &mut values[(number * 4 + row) * each..][..each] {
                    *value = b.mul(*value, factor);
                }
            }
        }
    }

    /// Scaled scores, and for each 1 where the key is seen and 0 where it is not, if that is ever
    /// so.
    fn masked(
        &mut self,
        layout: &Layout,
        seat: &Seat,
        values: &[Value],
        scaling: Scaling,
        scores: TileId,
    ) -> Vec<(Value, Option<Value>)> {
        let tile = self.program.tile(scores);
        let sight = self.sight(scaling, !tile.columns.is_multiple_of(4));
        let first = self.depth.expect("scores lie in the loop over keys").0;
        let (program, origin) = (self.program, self.origins[0]);
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let scale = functions::number(b, scaling.scale, 4);
        let mut found = Vec::with_capacity(values.len());
        for row in 0..layout.own_rows() * 4 {
            let quad = layout.row_quad(b, seat, row / 4);
            let query = b.times(quad, 4);
            let query = b.plus(query, (row % 4) as i32);
            let query = b.add(query, origin);
            for number in 0..layout.own_columns() {
                let quad = layout.column_quad(b, seat, number);
                let key = b.times(quad, 4);
                let key = b.add(key, first);
                let score = values[layout.place(row, 0, number)];
                let score = b.mul(score, scale);
                let places = [0, 1, 2, 3].map(|lane| (query, b.plus(key, lane)));
                found.push(sight.apply(b, (arguments, program), score, &places));
            }
        }
        found
    }

    /// Which keys queries see in the part of the loop at hand; `pads` says whether scores go beyond
    /// it.
    pub(super) fn sight(&mut self, scaling: Scaling, pads: bool) -> Sight {
        let (first, step) = self.depth.expect("scores lie in the loop over keys");
        let keys = self.keys();
        let is_partial = pads || !keys.is_multiple_of(step);
        let b = &mut self.x.b;
        let end = b.plus(first, step as i32);
        let most = b.i32(keys as i32);
        let end = b.binary(Binary::Min, end, most);
        Sight {
            end: is_partial.then_some(end),
            causal: scaling.causal,
            mask: scaling.mask,
            batch: self.batch,
            keys,
        }
    }

    /// How many keys there are.
    fn keys(&self) -> usize {
        let loops = self.program.steps().find_map(|step| {
            let Step::Loop { extent, .. } = step else {
                return None;
            };
            Some(*extent)
        });
        loops.expect("attention loops over keys")
    }

    /// See [`Step::Normalize`].
    pub(super) fn normalize(&mut self, acc: TileId) {
        let online = self.online.clone().expect("the loop over keys made it");
        let (layout, seat) = self.layout(online.scores);
        let shared = Memory::Shared(self.shared);
        let first_row = (self.staging + self.weights) as i32;
        let b = &mut self.x.b;
        let mut quads = Vec::new();
        for (number, &sums) in online.sums.iter().enumerate() {
            let quad = layout.row_quad(b, &seat, number);
            let line = b.times(seat.column, layout.row_quads as i32);
            let place = b.add(line, quad);
            quads.push(quad);
            b.guarded(seat.works, |b| b.store(shared, place, sums));
        }
        b.barrier();
        for &quad in &quads {
            let mut sum: Option<Value> = None;
            for other in 0..layout.invocations[1] {
                let place = b.plus(quad, (other * layout.row_quads) as i32);
                let part = b.load(shared, place);
                sum = Some(b.joined(Binary::Add, sum, part));
            }
            let sum = sum.expect("a row has invocations");
            // Without any key the weighted sum is 0, whatever it is divided by.
            let least = functions::number(b, f32::MIN_POSITIVE, 4);
            let sum = b.binary(Binary::Max, sum, least);
            let one = functions::number(b, 1.0, 4);
            let factor = b.binary(Binary::Div, one, sum);
            let zero = b.i32(0);
            let first = b.binary(Binary::Equal, seat.column, zero);
            let first = b.joined(Binary::And, seat.works, first);
            let place = b.plus(quad, first_row);
            b.when(first, |b| b.store(shared, place, factor));
        }
        b.barrier();
        self.scale_rows(acc, first_row);
    }
}
