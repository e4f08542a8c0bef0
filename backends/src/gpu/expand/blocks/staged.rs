//! Bringing factors near whole warps, and loops that bring the next ones meanwhile.
//!
//! Takes what a step copies and where it is near, gives asynchronous copies of chunks where numbers
//! lie as they are wanted, else stores of what was read and converted. With several stages the
//! copies of later parts of a loop are under way while one part is computed with.
//!
//! Source: NVIDIA CUTLASS documentation, "Efficient GEMM in CUDA", "Pipelining".

use compiler::kernel::{Binary, Builder, Builtin, Half, Memory, Value};
use compiler::tile::{Step, TileId};

use super::product::Patches;
use super::stages::Staged;
use super::{Blocks, Copied};
use crate::gpu::expand::address::At;
use crate::gpu::expand::functions::packed;
use crate::gpu::expand::near::{CHUNK, Near};
use crate::gpu::expand::quads::Along;

impl Blocks<'_, '_> {
    /// A loop over parts of factors that whole warps read.
    pub(super) fn repeat_staged(&mut self, [extent, step]: [usize; 2], body: &[Step]) {
        let stages = self.stages.as_ref().expect("warps have stages");
        let (count, stride) = (stages.count, stages.stride);
        let are_copied = stages.are_copied();
        let turns = extent.div_ceil(step);
        if count > 1 {
            return self.repeat_ahead([extent, step], [count, stride], body);
        }
        let part = |me: &mut Self, depth: Value| {
            me.bring(depth, step, body);
            if are_copied {
                me.x.b.commit();
                me.x.b.wait(0);
            }
            me.x.b.barrier();
            me.compute(depth, step, body);
        };
        let outer = self.depth;
        let (start, end) = (self.x.b.i32(0), self.x.b.i32(extent as i32));
        if turns == 1 {
            part(self, start);
        } else {
            let initial = self.state();
            let results = self.looped([start, end], step as i32, &initial, |me, counter, seen| {
                me.set_state(seen);
                part(me, counter);
                me.x.b.barrier();
                me.state()
            });
            self.set_state(&results);
        }
        self.depth = outer;
    }

    /// A loop in which the copies of all stages but one are under way.
    fn repeat_ahead(
        &mut self,
        [extent, step]: [usize; 2],
        [count, stride]: [usize; 2],
        body: &[Step],
    ) {
        let outer = self.depth;
        for stage in 0..count - 1 {
            let b = &mut self.x.b;
            let (depth, at) = (b.i32((stage * step) as i32), b.i32((stage * stride) as i32));
            self.at_stage(at);
            self.bring(depth, step, body);
            self.x.b.commit();
        }
        let b = &mut self.x.b;
        let (start, end) = (b.i32(0), b.i32(extent as i32));
        let ahead = (count - 1) as i32;
        let mut initial = self.state();
        let b = &mut self.x.b;
        initial.extend([b.i32(0), b.i32(ahead * stride as i32)]);
        let results = self.looped([start, end], step as i32, &initial, |me, counter, seen| {
            let (state, stages) = seen.split_at(seen.len() - 2);
            me.set_state(state);
            let (reads, writes) = (stages[0], stages[1]);
            // What is read now has arrived, and nobody reads any more what is written next.
            me.x.b.wait((count - 2) as u8);
            me.x.b.barrier();
            let depth = me.x.b.plus(counter, ahead * step as i32);
            let exists = me.x.b.below(depth, extent as i32);
            me.at_stage(writes);
            me.guarded(exists, |me| me.bring(depth, step, body));
            me.x.b.commit();
            me.at_stage(reads);
            me.compute(counter, step, body);
            let mut next = me.state();
            for stage in [reads, writes] {
                let b = &mut me.x.b;
                let later = b.plus(stage, stride as i32);
                let ends = b.i32((count * stride) as i32);
                let is_last = b.binary(Binary::Equal, later, ends);
                let zero = b.i32(0);
                next.push(b.select(is_last, zero, later));
            }
            next
        });
        let state = results.len() - 2;
        self.set_state(&results[..state]);
        self.depth = outer;
    }

    fn at_stage(&mut self, at: Value) {
        let stages = self.stages.as_mut().expect("warps have stages");
        stages.at = Some(at);
    }

    /// Brings near what a part of a loop copies.
    fn bring(&mut self, depth: Value, step: usize, body: &[Step]) {
        self.depth = Some((depth, step));
        for step in body {
            if let Step::Copy { tile, .. } = step {
                self.step(step);
                self.bring_factor(*tile);
            }
        }
    }

    /// What a part of a loop does with what is near.
    fn compute(&mut self, depth: Value, step: usize, body: &[Step]) {
        self.depth = Some((depth, step));
        for step in body {
            if !matches!(step, Step::Copy { .. }) {
                self.step(step);
            }
        }
    }

    /// Brings a factor near that a step has copied.
    pub(super) fn bring_factor(&mut self, tile: TileId) {
        let stages = self.stages.as_ref().expect("warps have stages");
        let staged = stages.factor(tile).expect("a factor is near");
        let copy = self.copied[&tile];
        match staged.chunked {
            true => self.copy_chunks(tile, copy, staged),
            false => self.store_halves(tile, copy, staged),
        }
    }

    /// Copies of all chunks of a factor, shared by all invocations.
    fn copy_chunks(&mut self, tile: TileId, copy: Copied, Staged { near, .. }: Staged) {
        let stages = self.stages.as_ref().expect("warps have stages");
        let (shared, stage) = (stages.chunks, stages.at);
        let planes = self.program.tile(tile).planes;
        let view = &self.program.views[copy.view];
        let (batch, ends) = (self.batch, self.ends(tile, view));
        let (chunks, all) = (near.chunks(), near.lines() * near.chunks());
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let local = b.builtin(Builtin::Local);
        for first in (0..all).step_by(self.invocations) {
            let number = b.plus(local, first as i32);
            let exists = match first + self.invocations <= all {
                true => None,
                false => Some(b.below(number, all as i32)),
            };
            b.guarded(exists, |b| {
                let (line, chunk) = (b.div(number, chunks as i32), b.rem(number, chunks as i32));
                let place = near.place(b, line, chunk);
                let place = match stage {
                    Some(stage) => b.add(place, stage),
                    None => place,
                };
                let begin = b.times(chunk, CHUNK as i32);
                let (row, depth) = match near.along {
                    Along::Columns => (line, begin),
                    Along::Rows => (begin, line),
                };
                let plane_rows = (near.rows / planes) as i32;
                let (plane, row) = match planes {
                    1 => (b.i32(0), row),
                    _ => (b.div(row, plane_rows), b.rem(row, plane_rows)),
                };
                let (row, column) = (b.add(row, copy.rows), b.add(depth, copy.columns));
                let valid = ends.valid(b, copy, row, column);
                let at = At {
                    batch,
                    plane,
                    row,
                    column,
                };
                arguments.copy_chunk(b, (view, at), valid, (shared, place));
            });
        }
    }

    /// Stores of a factor, patch by patch, in the type of products.
    fn store_halves(&mut self, tile: TileId, copy: Copied, Staged { near, .. }: Staged) {
        let stages = self.stages.as_ref().expect("warps have stages");
        let halves = stages.halves.expect("a factor is stored");
        let half = self.warps.expect("warps have a layout").half;
        let planes = self.program.tile(tile).planes;
        let view = &self.program.views[copy.view];
        let patches = Patches {
            planes,
            row_quads: near.rows / planes / 4,
            depth_quads: near.deep / 4,
            by_rows: self.patches_by_rows(tile, view),
        };
        let local = self.x.b.builtin(Builtin::Local);
        let end = self.x.b.i32(patches.count() as i32);
        let step = self.invocations as i32;
        self.looped([local, end], step, &[], |me, patch, _| {
            let b = &mut me.x.b;
            let place = patches.place(b, patch);
            let row = b.times(place.row_quad, 4);
            let row = b.add(row, copy.rows);
            let depth = b.times(place.depth_quad, 4);
            let column = b.add(depth, copy.columns);
            let words = me.pairs(half, (tile, copy), [place.plane, row, column]);
            let b = &mut me.x.b;
            let (chunk, upper) = (b.div(place.depth_quad, 2), b.rem(place.depth_quad, 2));
            let first = b.times(place.quad, 4);
            let turn = turn(b, near, &patches, place.quad);
            for number in 0..4 {
                let (line, words) = match turn {
                    None => (b.i32(number), words[number as usize]),
                    Some(turn) => turned(b, &words, turn, number),
                };
                let line = b.add(first, line);
                let chunk = near.place(b, line, chunk);
                let half_chunk = b.times(chunk, 2);
                let half_chunk = b.add(half_chunk, upper);
                let words = b.compose(&words);
                b.store(Memory::Shared(halves), half_chunk, words);
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
            return (0..4)
                .map(|row| {
                    [0, 2].map(|first| {
                        let pair =
                            [first, first + 1].map(|depth: usize| b.extract(lines[depth], row));
                        packed(b, half, pair)
                    })
                })
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
}

/// Which of the four lines of its patch an invocation stores first, beside those of other patches:
/// how many turns there are, and its own. Lines four apart lie in the same banks where they have 1, 2
/// or 4 chunks; `None` where all that is stored at a time lies in one line, or apart anyway.
fn turn(b: &mut Builder, near: Near, patches: &Patches, quad: Value) -> Option<(u32, Value)> {
    let (turns, apart) = match near.chunks() {
        _ if patches.by_rows => return None,
        1 => (4, 2),
        2 => (4, 1),
        4 => (2, 1),
        _ => return None,
    };
    let quad = b.div(quad, apart);
    Some((turns, b.rem(quad, turns as i32)))
}

/// The line that is stored at a turn's `number`, and its words.
fn turned(
    b: &mut Builder,
    words: &[[Value; 2]],
    (turns, turn): (u32, Value),
    number: i32,
) -> (Value, [Value; 2]) {
    let own = b.i32(number);
    let line = b.binary(Binary::Xor, own, turn);
    // One bit of the turn after the other decides between what is left of the lines.
    let mut left: Vec<[Value; 2]> = (0..turns)
        .map(|turn| words[(number as u32 ^ turn) as usize])
        .collect();
    let mut bits = turn;
    while left.len() > 1 {
        let bit = b.rem(bits, 2);
        let zero = b.i32(0);
        let even = b.binary(Binary::Equal, bit, zero);
        let pairs = left.chunks_exact(2);
        left = pairs
            .map(|pair| [0, 1].map(|word| b.select(even, pair[0][word], pair[1][word])))
            .collect();
        bits = b.div(bits, 2);
    }
    (line, left[0])
}
