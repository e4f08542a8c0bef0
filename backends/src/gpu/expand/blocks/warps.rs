//! Products of 16-bit factors by whole warps.
//!
//! Takes the steps of a product that [`WarpLayout`] shares, gives the accumulator that each
//! invocation holds as fragments. Both factors are near in pairs along the depth, row by row; sums
//! are f32.

use compiler::kernel::{Builder, Builtin, Half, Memory, Value};
use compiler::tile::TileId;

use super::{Blocks, Copied};
use crate::gpu::expand::address::At;
use crate::gpu::expand::functions::packed;
use crate::gpu::expand::warp_layout::{COLUMNS, DEPTH, Near, ROWS, WarpLayout};

impl Blocks<'_, '_> {
    /// `acc += left · rightᵀ`, a part of the depth.
    pub(super) fn mma_by_warps(&mut self, layout: WarpLayout, [acc, left, right]: [TileId; 3]) {
        for (tile, near) in [left, right].into_iter().zip(layout.near) {
            self.stage_pairs(layout.half, tile, self.copied[&tile], near);
        }
        self.x.b.barrier();
        let values = self.fragments(layout, &self.values[&acc].clone());
        self.x.b.barrier();
        self.values.insert(acc, values);
    }

    /// Brings a factor near: for each row its numbers in pairs.
    pub(super) fn stage_pairs(&mut self, half: Half, tile: TileId, copy: Copied, near: Near) {
        let planes = self.program.tile(tile).planes;
        let (row_quads, depth_quads) = (near.rows / planes / 4, near.deep / 4);
        let line_quads = planes * row_quads;
        let view = &self.program.views[copy.view];
        let by_rows = self.patches_by_rows(tile, view);
        let local = self.x.b.builtin(Builtin::Local);
        let end = self.x.b.i32((line_quads * depth_quads) as i32);
        let step = self.invocations as i32;
        self.looped([local, end], step, &[], |me, patch, _| {
            let b = &mut me.x.b;
            // What lies side by side in memory is read side by side.
            let (depth_quad, quad) = match by_rows {
                true => {
                    let quad = b.rem(patch, line_quads as i32);
                    (b.div(patch, line_quads as i32), quad)
                }
                false => {
                    let quad = b.div(patch, depth_quads as i32);
                    (b.rem(patch, depth_quads as i32), quad)
                }
            };
            let plane = b.div(quad, row_quads as i32);
            let in_plane = match planes {
                1 => quad,
                _ => b.rem(quad, row_quads as i32),
            };
            let row = b.times(in_plane, 4);
            let row = b.add(row, copy.rows);
            let depth = b.times(depth_quad, 4);
            let column = b.add(depth, copy.columns);
            let words = me.pairs(half, (tile, copy), [plane, row, column]);
            let b = &mut me.x.b;
            let line = b.times(quad, (4 * near.stride()) as i32);
            let pair = b.times(depth_quad, 2);
            let base = b.add(line, pair);
            let base = b.plus(base, near.first as i32);
            for (in_quad, words) in words.into_iter().enumerate() {
                for (pair, word) in words.into_iter().enumerate() {
                    let place = b.plus(base, (in_quad * near.stride() + pair) as i32);
                    b.store(Memory::Shared(me.shared), place, word);
                }
            }
            Vec::new()
        });
    }

    /// Four rows by four depths: two words for each row, 0 beyond the ends.
    fn pairs(
        &mut self,
        half: Half,
        (tile, copy): (TileId, Copied),
        [plane, row, column]: [Value; 3],
    ) -> Vec<[Value; 2]> {
        let view = &self.program.views[copy.view];
        if !self.deep_quads(tile, view) || !self.x.arguments.shows_pairs(view) {
            let lines = self.patch(view, (tile, copy), [plane, row, column]);
            let b = &mut self.x.b;
            let word = |b: &mut Builder, row: u8, first: usize| {
                let pair = [first, first + 1].map(|depth| b.extract(lines[depth], row));
                packed(b, half, pair)
            };
            return (0..4)
                .map(|row| [0, 2].map(|first| word(b, row, first)))
                .collect();
        }
        let (batch, ends) = (self.batch, self.ends(tile, view));
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let rows = (0..4).map(|number| {
            let row = b.plus(row, number);
            let valid = ends.valid(b, copy, row, column);
            let at = At {
                batch,
                plane,
                row,
                column,
            };
            let words = arguments.read_pairs(b, view, at, half, valid);
            [0, 1].map(|word| b.extract(words, word))
        });
        rows.collect()
    }

    /// The products of what lies near, fragment by fragment.
    fn fragments(&mut self, layout: WarpLayout, values: &[Value]) -> Vec<Value> {
        let seat = self.seat.expect("warps have seats");
        let shared = Memory::Shared(self.shared);
        let b = &mut self.x.b;
        let [left, right] = layout.near;
        let lines = [
            left.line(b, &seat, Some(seat.warp[0]), layout.fragments[0] * ROWS),
            right.line(b, &seat, Some(seat.warp[1]), layout.fragments[1] * COLUMNS),
        ];
        let plane_rows = right.rows / layout.planes;
        let mut next = values.to_vec();
        for part in 0..left.deep / DEPTH {
            let lefts = (0..layout.fragments[0])
                .map(|row| left.left(b, (shared, lines[0]), part, row * ROWS));
            let lefts: Vec<Value> = lefts.collect();
            for plane in 0..layout.planes {
                for column in 0..layout.fragments[1] {
                    let first = plane * plane_rows + column * COLUMNS;
                    let factor = right.right(b, (shared, lines[1]), part, first);
                    for (row, &left) in lefts.iter().enumerate() {
                        let place = layout.place(row, plane, column);
                        next[place] = b.mma(layout.half, [left, factor, next[place]]);
                    }
                }
            }
        }
        next
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
