//! Products: what an `mma` reads passes through shared memory, slice by slice.
//!
//! Takes the factors of a step, gives the accumulator after it. Both factors lie near as quads of
//! rows, depth by depth, so that an invocation loads four rows or four columns at a time.

use compiler::kernel::{Binary, Builder, Builtin, Memory, Value};
use compiler::tile::{TileId, View};

use super::{Blocks, Copied, factor_quads, slice, staged};
use crate::gpu::expand::address::{At, Width};
use crate::gpu::expand::quads::Along;

/// Whether rows or depths of a block may lie beyond those of a factor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    rows: bool,
    depth: bool,
}

/// The patches of four rows by four depths of a factor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patches {
    pub(super) planes: usize,
    /// Quads of the rows of a plane.
    pub(super) row_quads: usize,
    pub(super) depth_quads: usize,
    /// Whether rows, not depths, lie side by side.
    pub(super) by_rows: bool,
}

/// Where a patch is.
pub(super) struct PatchAt {
    pub(super) depth_quad: Value,
    /// The quad of all rows, and the plane and the quad in it.
    pub(super) quad: Value,
    pub(super) plane: Value,
    pub(super) row_quad: Value,
}

impl Patches {
    pub(super) fn count(&self) -> usize {
        self.planes * self.row_quads * self.depth_quads
    }

    /// Where the patch of a number is: what lies side by side in memory is read side by side.
    pub(super) fn place(&self, b: &mut Builder, patch: Value) -> PatchAt {
        let line_quads = (self.planes * self.row_quads) as i32;
        let depth_quads = self.depth_quads as i32;
        let (depth_quad, quad) = match self.by_rows {
            true => {
                let quad = b.rem(patch, line_quads);
                (b.div(patch, line_quads), quad)
            }
            false => {
                let quad = b.div(patch, depth_quads);
                (b.rem(patch, depth_quads), quad)
            }
        };
        let plane = b.div(quad, self.row_quads as i32);
        let row_quad = match self.planes {
            1 => quad,
            _ => b.rem(quad, self.row_quads as i32),
        };
        PatchAt {
            depth_quad,
            quad,
            plane,
            row_quad,
        }
    }
}

impl Ends {
    /// Whether an element exists; `None` where all do.
    pub(super) fn valid(
        self,
        b: &mut Builder,
        copy: Copied,
        row: Value,
        column: Value,
    ) -> Option<Value> {
        let mut valid = None;
        if self.rows {
            valid = Some(b.binary(Binary::Less, row, copy.ends[0]));
        }
        if self.depth {
            let inside = b.binary(Binary::Less, column, copy.ends[1]);
            valid = Some(b.joined(Binary::And, valid, inside));
        }
        valid
    }
}

impl Blocks<'_, '_> {
    /// `acc += left · rightᵀ`, in slices of the depth.
    pub(super) fn mma(&mut self, acc: TileId, left: TileId, right: TileId) {
        let depth = self.program.tile(right).columns;
        let left_quads = staged(self.program, left);
        let right_quads = factor_quads(self.program, right);
        let deep = slice(depth, left_quads + right_quads, self.staging);
        let slices = depth.div_ceil(deep);
        let right_copy = self.copied[&right];
        let left_copy = self.copied.get(&left).copied();
        let initial = self.values[&acc].clone();
        let zero = self.x.b.i32(0);
        let end = self.x.b.i32((slices * deep) as i32);
        let one = |me: &mut Self, offset: Value, values: &[Value]| {
            if let (Some(copy), true) = (left_copy, left_quads > 0) {
                me.stage(left, copy, offset, deep, 0);
            }
            me.stage(right, right_copy, offset, deep, deep * left_quads);
            me.x.b.barrier();
            let first = match left_quads {
                0 => (me.staging, Some(offset)),
                _ => (0, None),
            };
            let values = me.products(acc, first, deep * left_quads, deep, values);
            me.x.b.barrier();
            values
        };
        let values = match slices {
            1 => one(self, zero, &initial),
            _ => self.looped([zero, end], deep as i32, &initial, one),
        };
        self.values.insert(acc, values);
    }

    /// Brings one slice of a factor near: for each depth the quads of its rows.
    fn stage(&mut self, tile: TileId, copy: Copied, offset: Value, deep: usize, first: usize) {
        let own = self.program.tile(tile);
        let (planes, row_quads) = (own.planes, own.rows.div_ceil(4));
        let view = &self.program.views[copy.view];
        let patches = Patches {
            planes,
            row_quads,
            depth_quads: deep / 4,
            by_rows: self.patches_by_rows(tile, view),
        };
        let local = self.x.b.builtin(Builtin::Local);
        let end = self.x.b.i32(patches.count() as i32);
        self.looped(
            [local, end],
            self.invocations as i32,
            &[],
            |me, patch, _| {
                let b = &mut me.x.b;
                let place = patches.place(b, patch);
                let (plane, quad) = (place.plane, place.quad);
                let row = b.times(place.row_quad, 4);
                let row = b.add(row, copy.rows);
                let depth = b.times(place.depth_quad, 4);
                let within = b.add(depth, offset);
                let column = b.add(within, copy.columns);
                let lines = me.patch(view, (tile, copy), [plane, row, column]);
                let b = &mut me.x.b;
                let base = b.times(depth, (planes * row_quads) as i32);
                let base = b.add(base, quad);
                let base = b.plus(base, first as i32);
                for (line, value) in lines.into_iter().enumerate() {
                    let place = b.plus(base, (line * planes * row_quads) as i32);
                    b.store(Memory::Shared(me.shared), place, value);
                }
                Vec::new()
            },
        );
    }

    /// Whether the rows of a factor, not its depth, lie side by side.
    pub(super) fn patches_by_rows(&self, tile: TileId, view: &View) -> bool {
        let own = self.program.tile(tile);
        !self.deep_quads(tile, view)
            && own.rows.is_multiple_of(4)
            && self.x.arguments.shows_quads(view, Along::Rows)
    }

    /// Whether quads along the depth are loaded as such.
    pub(super) fn deep_quads(&self, tile: TileId, view: &View) -> bool {
        let own = self.program.tile(tile);
        let columns: usize = view.columns().iter().product();
        (own.columns.is_multiple_of(4) || own.columns >= columns)
            && self.x.arguments.shows_quads(view, Along::Columns)
    }

    /// Which ends of a factor a block may pass.
    pub(super) fn ends(&self, tile: TileId, view: &View) -> Ends {
        let own = self.program.tile(tile);
        let rows_total: usize = view.rows().iter().product();
        let columns_total: usize = view.columns().iter().product();
        // What is near may be more than the tile.
        let staged = self.stages.as_ref().and_then(|stages| stages.factor(tile));
        let [rows, depth] = match staged {
            Some(staged) => [staged.near.rows / own.planes, staged.near.deep],
            None => [own.rows, own.columns].map(|extent| extent.next_multiple_of(4)),
        };
        Ends {
            rows: !rows_total.is_multiple_of(own.rows) || rows != own.rows,
            depth: !columns_total.is_multiple_of(own.columns) || depth != own.columns,
        }
    }

    /// Four rows by four depths: for each depth the quad of rows, 0 beyond the ends.
    pub(super) fn patch(
        &mut self,
        view: &View,
        (tile, copy): (TileId, Copied),
        [plane, row, column]: [Value; 3],
    ) -> Vec<Value> {
        let (deep, by_rows) = (
            self.deep_quads(tile, view),
            self.patches_by_rows(tile, view),
        );
        let batch = self.batch;
        let ends = self.ends(tile, view);
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let valid = |b: &mut Builder, row: Value, column: Value| ends.valid(b, copy, row, column);
        let at = |row, column| At {
            batch,
            plane,
            row,
            column,
        };
        if by_rows {
            let mut lines = Vec::with_capacity(4);
            for line in 0..4 {
                let column = b.plus(column, line);
                let valid = valid(b, row, column);
                let width = Width::Quad(Along::Rows);
                lines.push(arguments.read(b, view, at(row, column), width, valid));
            }
            return lines;
        }
        let mut elements = Vec::with_capacity(4);
        for line in 0..4 {
            let row = b.plus(row, line);
            if deep {
                let valid = valid(b, row, column);
                let width = Width::Quad(Along::Columns);
                let quad = arguments.read(b, view, at(row, column), width, valid);
                elements.push([0, 1, 2, 3].map(|lane| b.extract(quad, lane)));
            } else {
                elements.push([0, 1, 2, 3].map(|lane| {
                    let column = b.plus(column, lane);
                    let valid = valid(b, row, column);
                    arguments.read(b, view, at(row, column), Width::One, valid)
                }));
            }
        }
        let line = |depth: usize| [0, 1, 2, 3].map(|row: usize| elements[row][depth]);
        (0..4).map(|depth| b.compose(&line(depth))).collect()
    }

    /// The products of one slice. The left factor begins at a quad of shared memory, or further by
    /// an offset in depths.
    fn products(
        &mut self,
        acc: TileId,
        (left, offset): (usize, Option<Value>),
        right: usize,
        deep: usize,
        values: &[Value],
    ) -> Vec<Value> {
        let (layout, seat) = self.layout(acc);
        let shared = Memory::Shared(self.shared);
        let b = &mut self.x.b;
        let (start, end) = (b.i32(0), b.i32(deep as i32));
        let planes = layout.planes;
        let right_stride = (planes * layout.column_quads) as i32;
        b.repeat([start, end], 1, values, |b, k, seen| {
            let depth = match offset {
                Some(offset) => b.add(k, offset),
                None => k,
            };
            let base = b.times(depth, layout.row_quads as i32);
            let base = b.plus(base, left as i32);
            let rows: Vec<Value> = (0..layout.own_rows())
                .map(|number| {
                    let quad = layout.row_quad(b, &seat, number);
                    let place = b.add(base, quad);
                    b.load(shared, place)
                })
                .collect();
            let base = b.times(k, right_stride);
            let base = b.plus(base, right as i32);
            let mut columns = Vec::new();
            for plane in 0..planes {
                for number in 0..layout.own_columns() {
                    let quad = layout.column_quad(b, &seat, number);
                    let place = b.add(base, quad);
                    let place = b.plus(place, (plane * layout.column_quads) as i32);
                    columns.push(b.load(shared, place));
                }
            }
            let mut next = seen.to_vec();
            for row in 0..layout.own_rows() * 4 {
                let factor = b.extract(rows[row / 4], (row % 4) as u8);
                let factor = b.splat(factor, 4);
                for (number, &column) in columns.iter().enumerate() {
                    let place = row * columns.len() + number;
                    next[place] = b.fma(factor, column, next[place]);
                }
            }
            next
        })
    }
}
