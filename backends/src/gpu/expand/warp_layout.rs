//! How whole warps share a block of a product of 16-bit factors, for targets that have them.
//!
//! Takes a block program, gives which fragments of 16 rows and 8 columns an invocation holds, and
//! where factors are near. It expands no step.

use compiler::DType;
use compiler::kernel::{Binary, Builder, Builtin, CHUNK_BYTES, Half, Value, WARP};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Scope, Step, Tile, TileId, View};

use super::near::{CHUNK, Near};

/// Rows, columns and depth of a fragment.
pub(crate) const ROWS: usize = 16;
pub(crate) const COLUMNS: usize = 8;
pub(crate) const DEPTH: usize = 16;

/// Warps of a workgroup at most.
pub(crate) const WARPS_MAX: usize = 8;
/// Fragments of an accumulator that a warp holds at most: 128 registers of each invocation.
const FRAGMENTS_MAX: usize = 32;

/// How warps share a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WarpLayout {
    pub(crate) half: Half,
    pub(crate) planes: usize,
    /// Warps along rows and along columns.
    warps: [usize; 2],
    /// Fragments of a warp along rows, and along the columns of each plane.
    pub(crate) fragments: [usize; 2],
}

/// Where an invocation is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    /// The warp along rows and along columns.
    pub(crate) warp: [Value; 2],
    /// The number in the warp.
    pub(crate) lane: Value,
    /// A quarter of it, and the rest.
    pub(crate) group: Value,
    pub(crate) in_group: Value,
    /// Whether the rest is odd, as a number and as a truth.
    odd: Value,
    pub(crate) is_odd: Value,
}

impl WarpLayout {
    /// The layout for a program; `None` where quads compute it.
    pub(crate) fn of(program: &BlockProgram, limits: &Limits) -> Option<WarpLayout> {
        if limits.warp != WARP {
            return None;
        }
        let tiles = product(program)?;
        let [left, right, acc] = tiles.map(|tile| program.tile(tile));
        let half = WarpLayout::half(&program.views)?;
        // A few rows are one fragment, a part of which is computed in vain.
        let is_whole = (acc.rows.is_multiple_of(ROWS) || acc.rows < ROWS)
            && acc.columns.is_multiple_of(COLUMNS)
            && left.planes == 1
            && right.planes == acc.planes;
        if !is_whole {
            return None;
        }
        let (warps, fragments) = shared(acc)?;
        let [.., (_, near)] = factors(program)?;
        let layout = WarpLayout {
            half,
            planes: acc.planes,
            warps,
            fragments,
        };
        (near.end() * CHUNK_BYTES as usize <= limits.shared_bytes_max as usize).then_some(layout)
    }

    /// A layout of warps along rows and columns; each holds `columns` fragments along the columns.
    pub(crate) fn of_attention(half: Half, warps: [usize; 2], columns: usize) -> WarpLayout {
        WarpLayout {
            half,
            planes: 1,
            warps,
            fragments: [1, columns],
        }
    }

    /// The type of 16 bits that all of some views have; `None` for others.
    pub(crate) fn half(views: &[View]) -> Option<Half> {
        let is_all = |dtype: DType| views.iter().all(|view| view.access.dtype == dtype);
        match (is_all(DType::F16), is_all(DType::BF16)) {
            (true, _) => Some(Half::F16),
            (_, true) => Some(Half::Bf16),
            (_, _) => None,
        }
    }

    pub(crate) fn invocations(&self) -> usize {
        self.warps[0] * self.warps[1] * WARP as usize
    }

    /// Fragments that an invocation holds.
    pub(crate) fn values(&self) -> usize {
        self.fragments[0] * self.planes * self.fragments[1]
    }

    /// Where the invocation is.
    pub(crate) fn seat(&self, b: &mut Builder) -> Seat {
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
            lane,
            group: b.div(lane, 4),
            in_group,
            odd,
            is_odd: b.binary(Binary::Equal, odd, one),
        }
    }

    /// The row in the block, of what an invocation stores of the fragments of that number.
    pub(crate) fn row(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        let first = b.times(seat.warp[0], (self.fragments[0] * ROWS) as i32);
        let row = b.add(first, seat.group);
        let lower = b.times(seat.odd, 8);
        let row = b.add(row, lower);
        b.plus(row, (number * ROWS) as i32)
    }

    /// The first of four columns in the block, of what an invocation stores of the fragments of
    /// that number.
    pub(crate) fn column(&self, b: &mut Builder, seat: &Seat, number: usize) -> Value {
        let first = b.times(seat.warp[1], (self.fragments[1] * COLUMNS) as i32);
        let quad = b.div(seat.in_group, 2);
        let quad = b.times(quad, 4);
        let column = b.add(first, quad);
        b.plus(column, (number * COLUMNS) as i32)
    }

    /// Rows of what an invocation stores.
    pub(crate) fn own_rows(&self) -> usize {
        self.fragments[0]
    }

    /// Quads of columns of what an invocation stores.
    pub(crate) fn own_columns(&self) -> usize {
        self.fragments[1]
    }

    /// The place of a fragment in an invocation's list.
    pub(crate) fn place(&self, row: usize, plane: usize, column: usize) -> usize {
        (row * self.planes + plane) * self.fragments[1] + column
    }
}

/// Where the factors of a program that is one product are near.
pub(crate) fn factors(program: &BlockProgram) -> Option<[(TileId, Near); 2]> {
    let [left, right, _] = product(program)?;
    let deep = program.tile(right).columns.next_multiple_of(CHUNK);
    let rows = |tile: TileId, unit: usize| {
        let tile = program.tile(tile);
        tile.planes * tile.rows.next_multiple_of(unit)
    };
    let first = Near::new(0, rows(left, ROWS), deep);
    let second = Near::new(first.end(), rows(right, COLUMNS), deep);
    Some([(left, first), (right, second)])
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
    let [rows, columns] = [acc.rows.div_ceil(ROWS), acc.columns / COLUMNS];
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
