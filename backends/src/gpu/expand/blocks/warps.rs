//! Products of 16-bit factors by whole warps.
//!
//! Takes a product that [`WarpLayout`] shares and whose factors are near, gives the accumulator that
//! each invocation holds as fragments. Sums are f32.

use compiler::kernel::Value;
use compiler::tile::TileId;

use super::Blocks;
use crate::gpu::expand::near::Side;
use crate::gpu::expand::warp_layout::{COLUMNS, DEPTH, ROWS, WarpLayout};

impl Blocks<'_, '_> {
    /// `acc += left · rightᵀ`, a part of the depth that is near, fragment by fragment.
    pub(super) fn mma_by_warps(&mut self, layout: WarpLayout, [acc, left, right]: [TileId; 3]) {
        let seat = self.seat.expect("warps have seats");
        let stages = self.stages.as_ref().expect("warps have stages");
        let near = [left, right].map(|tile| stages.factor(tile).expect("a factor is near").near);
        let (shared, stage) = (stages.chunks, stages.at);
        let b = &mut self.x.b;
        let own_rows = [layout.fragments[0] * ROWS, layout.fragments[1] * COLUMNS];
        let first = [0, 1].map(|side| b.times(seat.warp[side], own_rows[side] as i32));
        let lefts = near[0].reader(b, (Side::Left, shared), seat.lane, Some(first[0]), stage);
        let rights = near[1].reader(b, (Side::Right, shared), seat.lane, Some(first[1]), stage);
        let plane_rows = near[1].rows / layout.planes;
        let mut next = self.values[&acc].clone();
        for depth in (0..near[0].deep).step_by(DEPTH) {
            let half_deep = near[0].deep - depth < DEPTH;
            let factors =
                (0..layout.fragments[0]).map(|row| lefts.left(b, row * ROWS, depth, half_deep));
            let factors: Vec<Value> = factors.collect();
            for plane in 0..layout.planes {
                for column in (0..layout.fragments[1]).step_by(2) {
                    let count = (layout.fragments[1] - column).min(2);
                    let row = plane * plane_rows + column * COLUMNS;
                    let pair = rights.right(b, (row, count), depth, half_deep);
                    for (number, right) in pair.into_iter().enumerate() {
                        for (row, &left) in factors.iter().enumerate() {
                            let place = layout.place(row, plane, column + number);
                            next[place] = b.mma(layout.half, [left, right, next[place]]);
                        }
                    }
                }
            }
        }
        self.values.insert(acc, next);
    }

    /// Makes of fragments, which hold two columns of two rows, four columns of one row.
    pub(super) fn quads_of_fragments(&mut self, acc: TileId) {
        let seat = self.seat.expect("warps have seats");
        let b = &mut self.x.b;
        let values = self.values.get_mut(&acc).expect("the accumulator is there");
        for value in values {
            let [a0, a1, b0, b1] = [0, 1, 2, 3].map(|lane| b.extract(*value, lane));
            // Of each two neighbours the first stores the upper row, the other one the lower row.
            let sent = [(b0, a0), (b1, a1)].map(|(even, odd)| b.select(seat.is_odd, odd, even));
            let [c0, c1] = sent.map(|number| b.shuffle(number, 1));
            let lanes = [(a0, c0), (a1, c1), (c0, b0), (c1, b1)];
            let lanes = lanes.map(|(even, odd)| b.select(seat.is_odd, odd, even));
            *value = b.compose(&lanes);
        }
    }
}
