//! Stores: the epilogue on what each invocation holds of an accumulator.
//!
//! Takes the accumulator, stores every output of the region, column by column, so that what no row
//! changes is read once.

use compiler::kernel::{Binary, Builder, Value};
use compiler::tile::TileId;

use super::Blocks;
use crate::gpu::expand::address::{Arguments, At, Width};
use crate::gpu::expand::epilogue::{self, Epilogue};
use crate::gpu::expand::fragment::{Layout, Seat};
use crate::gpu::expand::warp_layout::{self, WarpLayout};

impl Blocks<'_, '_> {
    /// The epilogue on what each invocation holds.
    pub(super) fn store(&mut self, tile: Option<TileId>) {
        let tile = tile.expect("a product is stored");
        let held = match (self.warps, self.seat) {
            (Some(layout), Some(seat)) => {
                self.quads_of_fragments(tile);
                Held::Fragments(layout, seat)
            }
            (_, _) => {
                let (layout, seat) = self.layout(tile);
                Held::Quads(layout, seat)
            }
        };
        let values = self.values[&tile].clone();
        let own = self.program.tile(tile);
        let region = self.x.region;
        let epilogues = epilogue::all(region, &self.program.outputs, &self.x.arguments);
        let [rows, columns] = [self.program.rows, self.program.columns];
        let [row_unit, column_unit] = held.units();
        let rows_overhang = !rows.is_multiple_of(own.rows) || !own.rows.is_multiple_of(row_unit);
        let columns_overhang =
            !columns.is_multiple_of(own.columns) || !own.columns.is_multiple_of(column_unit);
        for epilogue in &epilogues {
            for number in 0..held.own_columns() {
                let b = &mut self.x.b;
                let column = held.column(b, number);
                let column = b.add(column, self.origins[1]);
                let column = b.plus(column, -(epilogue.views.first_column as i32));
                let everywhere = !columns_overhang
                    && epilogue.views.first_column == 0
                    && epilogue.views.columns == columns;
                let lanes: Vec<u8> = match epilogue.width {
                    Width::One => vec![0, 1, 2, 3],
                    Width::Quad(_) => vec![0],
                };
                for lane in lanes {
                    let b = &mut self.x.b;
                    let column = b.plus(column, i32::from(lane));
                    let mut holds = held.works();
                    if !everywhere {
                        let zero = b.i32(0);
                        let after = b.binary(Binary::LessEqual, zero, column);
                        let before = b.below(column, epilogue.views.columns as i32);
                        let inside = b.and(after, before);
                        holds = Some(b.joined(Binary::And, holds, inside));
                    }
                    let place = Place {
                        held: &held,
                        values: &values,
                        quad: number,
                        lane: match epilogue.width {
                            Width::One => Some(lane),
                            Width::Quad(_) => None,
                        },
                        column,
                        origin: self.origins[0],
                        batch: self.batch,
                        rows: rows_overhang.then_some((rows, own.rows)),
                    };
                    let arguments = &self.x.arguments;
                    b.guarded(holds, |b| place.column(b, arguments, epilogue));
                }
            }
        }
    }
}

/// What an invocation holds of an accumulator: four columns of each of its rows.
enum Held {
    Quads(Layout, Seat),
    Fragments(WarpLayout, warp_layout::Seat),
}

impl Held {
    fn own_columns(&self) -> usize {
        match self {
            Held::Quads(layout, _) => layout.own_columns(),
            Held::Fragments(layout, _) => layout.own_columns(),
        }
    }

    fn own_rows(&self) -> usize {
        match self {
            Held::Quads(layout, _) => layout.own_rows() * 4,
            Held::Fragments(layout, _) => layout.own_rows(),
        }
    }

    /// Rows and columns of the block that are held are multiples of these.
    fn units(&self) -> [usize; 2] {
        match self {
            Held::Quads(..) => [4, 4],
            Held::Fragments(..) => [warp_layout::ROWS, warp_layout::COLUMNS],
        }
    }

    /// The first of the columns of that number, in the block.
    fn column(&self, b: &mut Builder, number: usize) -> Value {
        match self {
            Held::Quads(layout, seat) => {
                let quad = layout.column_quad(b, seat, number);
                b.times(quad, 4)
            }
            Held::Fragments(layout, seat) => layout.column(b, seat, number),
        }
    }

    /// The row of that number, in the block.
    fn row(&self, b: &mut Builder, number: usize) -> Value {
        match self {
            Held::Quads(layout, seat) => {
                let quad = layout.row_quad(b, seat, number / 4);
                let first = b.times(quad, 4);
                b.plus(first, (number % 4) as i32)
            }
            Held::Fragments(layout, seat) => layout.row(b, seat, number),
        }
    }

    /// The place of a row's columns in the list of values.
    fn place(&self, row: usize, plane: usize, columns: usize) -> usize {
        match self {
            Held::Quads(layout, _) => layout.place(row, plane, columns),
            Held::Fragments(layout, _) => layout.place(row, plane, columns),
        }
    }

    /// Whether the invocation stores at all; `None` if all do.
    fn works(&self) -> Option<Value> {
        match self {
            Held::Quads(_, seat) => seat.works,
            Held::Fragments(..) => None,
        }
    }
}

/// One column, or quad of columns, of what an invocation stores.
struct Place<'a> {
    held: &'a Held,
    values: &'a [Value],
    quad: usize,
    /// The one lane of the quad that is stored, if not all.
    lane: Option<u8>,
    column: Value,
    origin: Value,
    batch: Value,
    /// The rows of the result and of a block, if some lie outside.
    rows: Option<(usize, usize)>,
}

impl Place<'_> {
    /// Computes and stores all rows.
    fn column(&self, b: &mut Builder, arguments: &Arguments<'_>, epilogue: &Epilogue<'_>) {
        let zero = b.i32(0);
        let at = At {
            batch: self.batch,
            plane: zero,
            row: zero,
            column: self.column,
        };
        // What no row changes is read once for several rows. Of one row it is read where the row
        // exists: it may lie where that row is stored, and then nobody else may read it.
        let rows = self.held.own_rows();
        let for_all = (rows > 1).then(|| epilogue.fixed(b, arguments, at));
        for row in 0..rows {
            let in_block = self.held.row(b, row);
            let at = At {
                row: b.add(in_block, self.origin),
                ..at
            };
            let compute = |b: &mut Builder| {
                let mut anchor = |b: &mut Builder, plane: usize| {
                    let value = self.values[self.held.place(row, plane, self.quad)];
                    match self.lane {
                        Some(lane) => b.extract(value, lane),
                        None => value,
                    }
                };
                let for_one = match for_all {
                    Some(_) => None,
                    None => Some(epilogue.fixed(b, arguments, at)),
                };
                let fixed = for_all.as_ref().or(for_one.as_ref());
                let fixed = fixed.expect("one of them is there");
                let value = epilogue.compute(b, arguments, at, fixed, &mut anchor);
                epilogue.store(b, arguments, at, value);
            };
            match self.rows {
                None => compute(b),
                Some((rows, block)) => {
                    let exists = b.below(at.row, rows as i32);
                    let mine = b.below(in_block, block as i32);
                    let exists = b.and(exists, mine);
                    b.when(exists, compute);
                }
            }
        }
    }
}
