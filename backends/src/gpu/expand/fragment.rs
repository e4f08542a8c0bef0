//! Fragments: how the invocations of a workgroup share the elements of an accumulator.
//!
//! Takes the extents of a tile, gives each invocation some quads of rows and of columns. An
//! invocation's quads lie a whole row of invocations apart, so that neighbours read neighbours.

use compiler::kernel::{Builder, Builtin, Value};
use compiler::tile::Tile;

/// Elements that an invocation may accumulate at most: half of the registers that it can have.
pub(crate) const ELEMENTS_MAX: usize = 128;

/// How a tile is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) planes: usize,
    /// Quads of rows, the last one perhaps filled in part.
    pub(crate) row_quads: usize,
    /// Quads of columns of each plane.
    pub(crate) column_quads: usize,
    /// Invocations along rows and along columns; they divide the quads.
    pub(crate) invocations: [usize; 2],
}

/// Where an invocation is in a layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) row: Value,
    pub(crate) column: Value,
    /// Whether it works at all; `None` if all do. Those that do not repeat what others compute.
    pub(crate) works: Option<Value>,
}

impl Layout {
    /// The layout that keeps most of `invocations` at work, and of these the one that loads least.
    pub(crate) fn new(tile: &Tile, invocations: usize) -> Layout {
        let [row_quads, column_quads] = [tile.rows, tile.columns].map(|extent| extent.div_ceil(4));
        let divisors = |of: usize| (1..=of).filter(move |divisor| of.is_multiple_of(*divisor));
        let mut best = ([1, 1], (0, usize::MAX));
        for rows in divisors(row_quads) {
            for columns in divisors(column_quads) {
                let loads = row_quads / rows + tile.planes * column_quads / columns;
                let merit = (rows * columns, loads);
                let better = merit.0 > best.1.0 || (merit.0 == best.1.0 && merit.1 < best.1.1);
                if rows * columns <= invocations && better {
                    best = ([rows, columns], merit);
                }
            }
        }
        Layout {
            planes: tile.planes,
            row_quads,
            column_quads,
            invocations: best.0,
        }
    }

    /// Quads of rows of one invocation.
    pub(crate) fn own_rows(&self) -> usize {
        self.row_quads / self.invocations[0]
    }

    /// Quads of columns of one invocation, of one plane.
    pub(crate) fn own_columns(&self) -> usize {
        self.column_quads / self.invocations[1]
    }

    /// Values of four columns that one invocation holds: for each of its rows, each plane and each
    /// of its quads of columns.
    pub(crate) fn values(&self) -> usize {
        self.own_rows() * 4 * self.planes * self.own_columns()
    }

    /// The place of a value in an invocation's list.
    pub(crate) fn place(&self, row: usize, plane: usize, quad: usize) -> usize {
        (row * self.planes + plane) * self.own_columns() + quad
    }

    /// Where the invocation is.
    pub(crate) fn seat(&self, b: &mut Builder, invocations: usize) -> Seat {
        let [rows, columns] = self.invocations;
        let local = b.builtin(Builtin::Local);
        let working = rows * columns;
        let (own, works) = match working == invocations {
            true => (local, None),
            false => {
                let works = b.below(local, working as i32);
                (b.rem(local, working as i32), Some(works))
            }
        };
        Seat {
            row: b.div(own, columns as i32),
            column: b.rem(own, columns as i32),
            works,
        }
    }

    /// The quad of rows of that number of an invocation.
    pub(crate) fn row_quad(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        b.plus(seat.row, (number * self.invocations[0]) as i32)
    }

    /// The quad of columns of that number of an invocation, in its plane.
    pub(crate) fn column_quad(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        b.plus(seat.column, (number * self.invocations[1]) as i32)
    }
}

/// Invocations for a program whose largest accumulator is `tile`: so many that each holds four
/// quads of rows by quads of columns, in whole groups of 32.
pub(crate) fn invocations(tile: &Tile, most: usize) -> usize {
    let quads = tile.planes * tile.rows.div_ceil(4) * tile.columns.div_ceil(4);
    (quads / 4).next_multiple_of(32).clamp(32, most)
}
