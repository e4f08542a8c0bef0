//! Products of 16-bit factors by whole warps, for targets that have them.
//!
//! Takes the steps of a product whose block is whole fragments of 16 rows and 8 columns, gives the
//! accumulator that each invocation holds as fragments. Both factors lie near in pairs along the
//! depth, row by row; sums are f32. What has other tiles or types is expanded by quads.

use compiler::DType;
use compiler::kernel::{Binary, Builder, Builtin, Half, Memory, Value, WARP};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Scope, Step, Tile, TileId, View};

use super::{Blocks, Copied};
use crate::gpu::expand::address::At;
use crate::gpu::expand::functions::packed;

/// Rows, columns and depth of a fragment.
pub(super) const ROWS: usize = 16;
pub(super) const COLUMNS: usize = 8;
pub(super) const DEPTH: usize = 16;

/// Warps of a workgroup at most.
const WARPS_MAX: usize = 8;
/// Fragments of an accumulator that a warp holds at most: 128 registers of each invocation.
const FRAGMENTS_MAX: usize = 32;
/// Words between rows beyond those of the depth. With depths of whole fragments, rows of a fragment
/// then begin 4 words of a cycle of 32 apart, so that a warp reads 32 banks at once.
const PADDING: usize = 4;

/// Where a factor is near: its rows in pairs of numbers, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Near {
    /// The first word.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Numbers of a row: whole fragments.
    pub(super) deep: usize,
}

impl Near {
    /// Words from a row to the next.
    fn stride(&self) -> usize {
        self.deep / 2 + PADDING
    }

    /// The word behind the last.
    pub(super) fn end(&self) -> usize {
        self.first + self.rows * self.stride()
    }

    /// The word that an invocation reads first: of the rows of its warp, if they are divided, or of
    /// all.
    pub(super) fn line(
        &self,
        b: &mut Builder,
        seat: &Seat,
        warp: Option<Value>,
        rows: usize,
    ) -> Value {
        let row = match warp {
            Some(warp) => {
                let first = b.times(warp, rows as i32);
                b.add(first, seat.group)
            }
            None => seat.group,
        };
        let line = b.times(row, self.stride() as i32);
        let line = b.add(line, seat.in_group);
        b.plus(line, self.first as i32)
    }

    /// A fragment of a left factor, from a row on.
    pub(super) fn left(
        &self,
        b: &mut Builder,
        near: (Memory, Value),
        part: usize,
        row: usize,
    ) -> Value {
        let upper = row * self.stride();
        let lower = upper + 8 * self.stride();
        self.words(b, near, part, &[upper, lower, upper + 4, lower + 4])
    }

    /// A fragment of a right factor, from a row on.
    pub(super) fn right(
        &self,
        b: &mut Builder,
        near: (Memory, Value),
        part: usize,
        row: usize,
    ) -> Value {
        let first = row * self.stride();
        self.words(b, near, part, &[first, first + 4])
    }

    fn words(
        &self,
        b: &mut Builder,
        (shared, line): (Memory, Value),
        part: usize,
        places: &[usize],
    ) -> Value {
        let words = places.iter().map(|place| {
            let place = b.plus(line, (place + part * DEPTH / 2) as i32);
            b.load(shared, place)
        });
        let words: Vec<Value> = words.collect();
        b.compose(&words)
    }
}

/// How warps share a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WarpLayout {
    half: Half,
    planes: usize,
    /// Warps along rows and along columns.
    warps: [usize; 2],
    /// Fragments of a warp along rows, and along the columns of each plane.
    fragments: [usize; 2],
    /// Where the factors of a product are near.
    near: [Near; 2],
}

/// Where an invocation is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    /// The warp along rows and along columns.
    pub(super) warp: [Value; 2],
    /// A quarter of the number in the warp, and the rest.
    pub(super) group: Value,
    pub(super) in_group: Value,
    /// Whether the rest is odd, as a number and as a truth.
    odd: Value,
    is_odd: Value,
}

impl WarpLayout {
    /// The layout for a program; `None` where quads compute it.
    pub(super) fn of(program: &BlockProgram, limits: &Limits) -> Option<WarpLayout> {
        if limits.warp != WARP {
            return None;
        }
        let [left, right, acc] = product(program)?;
        let [left, right, acc] = [left, right, acc].map(|tile| program.tile(tile));
        let half = WarpLayout::half(&program.views)?;
        let is_whole = acc.rows.is_multiple_of(ROWS)
            && acc.columns.is_multiple_of(COLUMNS)
            && left.planes == 1
            && right.planes == acc.planes;
        if !is_whole {
            return None;
        }
        let (warps, fragments) = shared(acc)?;
        let deep = right.columns.next_multiple_of(DEPTH);
        let near = |first, rows| Near { first, rows, deep };
        let left = near(0, left.rows);
        let layout = WarpLayout {
            half,
            planes: acc.planes,
            warps,
            fragments,
            near: [left, near(left.end(), right.planes * right.rows)],
        };
        (layout.words() * 4 <= limits.shared_bytes_max as usize).then_some(layout)
    }

    /// Warps that share rows alone, each with so many fragments of columns.
    pub(super) fn of_rows(half: Half, warps: usize, columns: usize) -> WarpLayout {
        let none = Near {
            first: 0,
            rows: 0,
            deep: 0,
        };
        WarpLayout {
            half,
            planes: 1,
            warps: [warps, 1],
            fragments: [1, columns],
            near: [none; 2],
        }
    }

    /// The type of 16 bits that all of some views have; `None` for others.
    pub(super) fn half(views: &[View]) -> Option<Half> {
        let is_all = |dtype: DType| views.iter().all(|view| view.access.dtype == dtype);
        match (is_all(DType::F16), is_all(DType::BF16)) {
            (true, _) => Some(Half::F16),
            (_, true) => Some(Half::Bf16),
            (_, _) => None,
        }
    }

    pub(super) fn invocations(&self) -> usize {
        self.warps[0] * self.warps[1] * WARP as usize
    }

    /// Words of shared memory.
    pub(super) fn words(&self) -> usize {
        self.near[1].end()
    }

    /// Fragments that an invocation holds.
    pub(super) fn values(&self) -> usize {
        self.fragments[0] * self.planes * self.fragments[1]
    }

    /// Where the invocation is.
    pub(super) fn seat(&self, b: &mut Builder) -> Seat {
        let local = b.builtin(Builtin::Local);
        let warp = b.div(local, WARP as i32);
        let lane = b.rem(local, WARP as i32);
        let in_group = b.rem(lane, 4);
        let odd = b.rem(in_group, 2);
        let one = b.i32(1);
        Seat {
            warp: [
                b.div(warp, self.warps[1] as i32),
                b.rem(warp, self.warps[1] as i32),
            ],
            group: b.div(lane, 4),
            in_group,
            odd,
            is_odd: b.binary(Binary::Equal, odd, one),
        }
    }

    /// The row in the block, of what an invocation stores of the fragments of that number.
    pub(super) fn row(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        let first = b.times(seat.warp[0], (self.fragments[0] * ROWS) as i32);
        let row = b.add(first, seat.group);
        let lower = b.times(seat.odd, 8);
        let row = b.add(row, lower);
        b.plus(row, (number * ROWS) as i32)
    }

    /// The first of four columns in the block, of what an invocation stores of the fragments of
    /// that number.
    pub(super) fn column(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        let first = b.times(seat.warp[1], (self.fragments[1] * COLUMNS) as i32);
        let quad = b.div(seat.in_group, 2);
        let quad = b.times(quad, 4);
        let column = b.add(first, quad);
        b.plus(column, (number * COLUMNS) as i32)
    }

    /// Rows of what an invocation stores.
    pub(super) fn own_rows(&self) -> usize {
        self.fragments[0]
    }

    /// Quads of columns of what an invocation stores.
    pub(super) fn own_columns(&self) -> usize {
        self.fragments[1]
    }

    /// The place of a fragment in an invocation's list.
    pub(super) fn place(&self, row: usize, plane: usize, column: usize) -> usize {
        (row * self.planes + plane) * self.fragments[1] + column
    }
}

/// The tiles of a program that is one product: left and right factor, accumulator.
fn product(program: &BlockProgram) -> Option<[TileId; 3]> {
    let [
        Step::Zero { .. },
        Step::Loop { body, .. },
        Step::Store { .. },
    ] = &program.body[..]
    else {
        return None;
    };
    let [
        Step::Copy { .. },
        Step::Copy { .. },
        Step::Mma { acc, left, right },
    ] = body[..]
    else {
        return None;
    };
    let is_near = program.tile(left).scope == Scope::Shared;
    is_near.then_some([left, right, acc])
}

/// The warps along rows and columns, and the fragments of each: of the ways with most warps the one
/// that reads least.
fn shared(acc: &Tile) -> Option<([usize; 2], [usize; 2])> {
    let [rows, columns] = [acc.rows / ROWS, acc.columns / COLUMNS];
    let divisors = |of: usize| (1..=of).filter(move |divisor| of.is_multiple_of(*divisor));
    let mut best = None;
    let mut merit_max = (0, 0);
    for along_rows in divisors(rows) {
        for along_columns in divisors(columns) {
            let warps = along_rows * along_columns;
            let fragments = [rows / along_rows, columns / along_columns];
            let held = fragments[0] * acc.planes * fragments[1];
            if warps > WARPS_MAX || held > FRAGMENTS_MAX {
                continue;
            }
            // A fragment of the left factor is four words, one of the right factor two.
            let reads = 4 * fragments[0] + 2 * acc.planes * fragments[1];
            let merit = (warps, usize::MAX - reads);
            if merit > merit_max {
                merit_max = merit;
                best = Some(([along_rows, along_columns], fragments));
            }
        }
    }
    best
}

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
