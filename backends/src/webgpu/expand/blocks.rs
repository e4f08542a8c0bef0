//! Steps of products: contractions and attention, tile by tile.
//!
//! Takes a block program of `mma`s, gives the kernel whose workgroup computes one block. What an
//! `mma` reads from views passes through shared memory in slices of its depth; accumulators stay in
//! registers, shared as [`Layout`] says. Attention's weights are written to shared memory once,
//! as the left factor of the second product.

use std::collections::BTreeMap;

use compiler::kernel::{Binary, Builder, Builtin, Memory, Scalar, SharedId, Type, Unary, Value};
use compiler::tile::{BlockProgram, Origin, Step, TileId, View};

use super::address::{At, Width};
use super::fragment::{self, Layout, Seat};
use super::quads::Along;
use super::{Expansion, Refusal, functions};

/// The least number: what no score is below.
const LEAST: f32 = f32::MIN;

/// Depths of a slice, in quads, the best first.
const SLICES: [usize; 4] = [16, 12, 8, 4];

const F32X4: Type = Type::lanes(Scalar::F32, 4);

/// A tile that a step copied from a view: it is read where an `mma` wants it.
#[derive(Clone, Copy)]
struct Copied {
    view: usize,
    rows: Value,
    columns: Value,
    /// Where rows and columns end: of the tile, or of the view.
    ends: [Value; 2],
}

/// What online softmax keeps of each quad of rows.
#[derive(Clone)]
struct Online {
    scores: TileId,
    largest: Vec<Value>,
    sums: Vec<Value>,
}

/// The state of one block.
pub(crate) struct Blocks<'a, 'b> {
    pub(crate) x: &'a mut Expansion<'b>,
    pub(crate) program: &'a BlockProgram,
    pub(crate) invocations: usize,
    layouts: BTreeMap<TileId, (Layout, Seat)>,
    values: BTreeMap<TileId, Vec<Value>>,
    copied: BTreeMap<TileId, Copied>,
    online: Option<Online>,
    /// Shared memory: staged factors or partial reductions, then weights of attention, then one
    /// number per row.
    pub(crate) shared: SharedId,
    staging: usize,
    weights: usize,
    origins: [Value; 2],
    depth: Option<(Value, usize)>,
    batch: Value,
}

/// Bytes of shared memory: `[staging, weights, per row]`, in quads.
fn shared_quads(
    program: &BlockProgram,
    invocations: usize,
    bytes_max: usize,
) -> Option<[usize; 3]> {
    let mut most = [0; 3];
    sizes(
        program,
        &program.body,
        invocations,
        bytes_max / 16,
        &mut most,
    )
    .then_some(most)
}

/// Quads of a slice of one factor.
fn factor_quads(program: &BlockProgram, tile: TileId) -> usize {
    let tile = program.tile(tile);
    tile.planes * tile.rows.div_ceil(4)
}

/// See [`shared_quads`]; false where not even the thinnest slice fits.
fn sizes(
    program: &BlockProgram,
    steps: &[Step],
    invocations: usize,
    quads_max: usize,
    most: &mut [usize; 3],
) -> bool {
    for step in steps {
        match step {
            Step::Loop { body, .. } => {
                if !sizes(program, body, invocations, quads_max, most) {
                    return false;
                }
            }
            Step::Online { scores, .. } => {
                let tile = program.tile(*scores);
                let layout = Layout::new(tile, invocations);
                most[0] = most[0].max(layout.row_quads * layout.invocations[1]);
                most[1] = tile.columns.next_multiple_of(4) * layout.row_quads;
                most[2] = layout.row_quads;
            }
            Step::Zero { .. }
            | Step::Copy { .. }
            | Step::Mma { .. }
            | Step::Normalize { .. }
            | Step::Rows { .. }
            | Step::Gather { .. }
            | Step::Store { .. } => {}
        }
    }
    // Then what products stage, in slices as deep as fit.
    let left = quads_max.saturating_sub(most[1] + most[2]);
    for step in steps {
        if let Step::Mma { left: a, right, .. } = step {
            let quads = staged(program, *a) + factor_quads(program, *right);
            let deep = slice(program.tile(*right).columns, quads, left);
            if deep == 0 {
                return false;
            }
            most[0] = most[0].max(deep * quads);
        }
    }
    most.iter().sum::<usize>() <= quads_max
}

/// Quads that a slice of a left factor takes in staging: none for weights of attention.
fn staged(program: &BlockProgram, tile: TileId) -> usize {
    match program.tile(tile).scope {
        compiler::tile::Scope::Shared => factor_quads(program, tile),
        compiler::tile::Scope::Fragment => 0,
    }
}

/// The depth of a slice: of those that fit and divide the depth the largest, 0 if none fits.
fn slice(depth: usize, quads: usize, quads_max: usize) -> usize {
    let depth = depth.next_multiple_of(4);
    let mut deep = SLICES.into_iter();
    let fits = |deep: &usize| deep * quads <= quads_max && depth.is_multiple_of(*deep);
    deep.find(fits).unwrap_or(0)
}

/// The accumulator that decides how many invocations there are: the largest.
fn largest(program: &BlockProgram) -> Option<&compiler::tile::Tile> {
    let fragments = program
        .tiles
        .iter()
        .filter(|tile| tile.scope == compiler::tile::Scope::Fragment);
    fragments.max_by_key(|tile| tile.planes * tile.rows * tile.columns)
}

/// Expands a program of products.
///
/// # Errors
/// When its tiles do not fit near a workgroup.
pub(crate) fn expand(x: &mut Expansion<'_>, program: &BlockProgram) -> Result<(), Refusal> {
    let limits = x.limits;
    let tile = largest(program).ok_or(Refusal::Steps)?;
    let invocations = fragment::invocations(tile, limits.invocations_max as usize);
    let bytes_max = limits.shared_bytes_max as usize;
    let [staging, weights, rows] =
        shared_quads(program, invocations, bytes_max).ok_or(Refusal::Shared {
            bytes_max: limits.shared_bytes_max,
        })?;
    let fragments = program.tiles.iter();
    let holds = fragments
        .filter(|tile| tile.scope == compiler::tile::Scope::Fragment)
        .all(|tile| Layout::new(tile, invocations).values() * 4 <= 2 * fragment::ELEMENTS_MAX);
    if !holds {
        return Err(Refusal::Registers);
    }
    let [batch, columns, rows_of_grid] = program.grid();
    x.begin(program, invocations as u32, [rows_of_grid, columns, batch])?;
    let b = &mut x.b;
    let shared = b.shared("near", F32X4, (staging + weights + rows).max(1) as u32);
    let [row, column, batch] = [0, 1, 2].map(|axis| b.builtin(Builtin::Group(axis)));
    let row = b.times(row, program.block[0] as i32);
    let column = b.times(column, program.block[1] as i32);
    let mut blocks = Blocks {
        x,
        program,
        invocations,
        layouts: BTreeMap::new(),
        values: BTreeMap::new(),
        copied: BTreeMap::new(),
        online: None,
        shared,
        staging,
        weights,
        origins: [row, column],
        depth: None,
        batch,
    };
    blocks.steps(&program.body);
    Ok(())
}

impl Blocks<'_, '_> {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Zero { tile } => {
                let (layout, _) = self.layout(*tile);
                let zero = functions::number(&mut self.x.b, 0.0, 4);
                self.values.insert(*tile, vec![zero; layout.values()]);
            }
            Step::Copy {
                tile,
                view,
                rows,
                columns,
                ..
            } => {
                let copied = self.copy(*tile, *view, [*rows, *columns]);
                self.copied.insert(*tile, copied);
            }
            Step::Mma { acc, left, right } => self.mma(*acc, *left, *right),
            Step::Online {
                scores,
                acc,
                scale,
                causal,
                mask,
            } => self.online((*scores, *acc), *scale as f32, *causal, *mask),
            Step::Normalize { acc } => self.normalize(*acc),
            Step::Loop {
                over: _,
                extent,
                step,
                stages: _,
                body,
            } => self.repeat(*extent, *step, body),
            Step::Store { tile, .. } => self.store(*tile),
            Step::Rows { .. } | Step::Gather { .. } => {
                unreachable!("programs of rows are expanded elsewhere")
            }
        }
    }

    /// The layout of an accumulator, made where it is first met.
    fn layout(&mut self, tile: TileId) -> (Layout, Seat) {
        if let Some(found) = self.layouts.get(&tile) {
            return *found;
        }
        let layout = Layout::new(self.program.tile(tile), self.invocations);
        let seat = layout.seat(&mut self.x.b, self.invocations);
        self.layouts.insert(tile, (layout, seat));
        (layout, seat)
    }

    fn copy(&mut self, tile: TileId, view: usize, origins: [Origin; 2]) -> Copied {
        let shown = &self.program.views[view];
        let extents = [shown.rows(), shown.columns()].map(|axes| axes.iter().product::<usize>());
        let own = self.program.tile(tile);
        let sides = [own.rows, own.columns];
        let [rows, columns] = [0, 1].map(|side| {
            let start = match origins[side] {
                Origin::Zero => self.x.b.i32(0),
                Origin::Rows => self.origins[0],
                Origin::Columns => self.origins[1],
                Origin::Depth => self.depth.expect("copies at a depth lie in its loop").0,
            };
            let end = match origins[side] {
                Origin::Zero => self.x.b.i32(extents[side] as i32),
                Origin::Rows | Origin::Columns | Origin::Depth => {
                    let end = self.x.b.plus(start, sides[side] as i32);
                    match extents[side].is_multiple_of(sides[side]) {
                        true => end,
                        false => {
                            let most = self.x.b.i32(extents[side] as i32);
                            self.x.b.binary(Binary::Min, end, most)
                        }
                    }
                }
            };
            (start, end)
        });
        Copied {
            view,
            rows: rows.0,
            columns: columns.0,
            ends: [rows.1, columns.1],
        }
    }

    /// A loop carries every accumulator, and what online softmax keeps.
    fn repeat(&mut self, extent: usize, step: usize, body: &[Step]) {
        let scores = body.iter().find_map(|step| match step {
            Step::Online { scores, .. } => Some(*scores),
            Step::Zero { .. }
            | Step::Copy { .. }
            | Step::Mma { .. }
            | Step::Normalize { .. }
            | Step::Rows { .. }
            | Step::Gather { .. }
            | Step::Loop { .. }
            | Step::Store { .. } => None,
        });
        if let Some(scores) = scores {
            let (layout, _) = self.layout(scores);
            let least = functions::number(&mut self.x.b, LEAST, 4);
            let zero = functions::number(&mut self.x.b, 0.0, 4);
            self.online = Some(Online {
                scores,
                largest: vec![least; layout.own_rows()],
                sums: vec![zero; layout.own_rows()],
            });
        }
        // Layouts that the body needs are made before it.
        for number in 0..self.program.tiles.len() {
            let tile = TileId(number as u32);
            if self.program.tile(tile).scope == compiler::tile::Scope::Fragment {
                self.layout(tile);
            }
        }
        let initial = self.state();
        let (start, end) = (self.x.b.i32(0), self.x.b.i32(extent as i32));
        let turns = extent.div_ceil(step);
        let outer = self.depth;
        if turns == 1 {
            self.depth = Some((start, step));
            self.steps(body);
            self.depth = outer;
            return;
        }
        let b = std::mem::replace(&mut self.x.b, Builder::new("", Vec::new(), 1, [1; 3]));
        let mut b = b;
        let results = b.repeat([start, end], step as i32, &initial, |b, counter, seen| {
            std::mem::swap(&mut self.x.b, b);
            self.set_state(seen);
            self.depth = Some((counter, step));
            self.steps(body);
            let next = self.state();
            std::mem::swap(&mut self.x.b, b);
            next
        });
        self.x.b = b;
        self.depth = outer;
        self.set_state(&results);
    }

    /// What lives on from turn to turn: accumulators that were there before the loop.
    fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        let scores = self.online.as_ref().map(|online| online.scores);
        for (tile, values) in &self.values {
            if Some(*tile) != scores {
                state.extend(values);
            }
        }
        if let Some(online) = &self.online {
            state.extend(&online.largest);
            state.extend(&online.sums);
        }
        state
    }

    fn set_state(&mut self, state: &[Value]) {
        let scores = self.online.as_ref().map(|online| online.scores);
        let mut state = state.iter().copied();
        for (tile, values) in &mut self.values {
            if Some(*tile) != scores {
                for (own, value) in values.iter_mut().zip(&mut state) {
                    *own = value;
                }
            }
        }
        if let Some(online) = &mut self.online {
            let kept = online.largest.iter_mut().chain(&mut online.sums);
            for (own, value) in kept.zip(state) {
                *own = value;
            }
        }
    }

    /// `acc += left · rightᵀ`, in slices of the depth.
    fn mma(&mut self, acc: TileId, left: TileId, right: TileId) {
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
            _ => {
                let mut b = self.take();
                let values = b.repeat([zero, end], deep as i32, &initial, |b, offset, seen| {
                    std::mem::swap(&mut self.x.b, b);
                    let next = one(self, offset, seen);
                    std::mem::swap(&mut self.x.b, b);
                    next
                });
                self.x.b = b;
                values
            }
        };
        self.values.insert(acc, values);
    }

    fn take(&mut self) -> Builder {
        std::mem::replace(&mut self.x.b, Builder::new("", Vec::new(), 1, [1; 3]))
    }

    /// Brings one slice of a factor near: for each depth the quads of its rows.
    fn stage(&mut self, tile: TileId, copy: Copied, offset: Value, deep: usize, first: usize) {
        let own = self.program.tile(tile);
        let (planes, row_quads) = (own.planes, own.rows.div_ceil(4));
        let depth_quads = deep / 4;
        let patches = planes * row_quads * depth_quads;
        let view = &self.program.views[copy.view];
        let by_rows = self.patches_by_rows(tile, view);
        let local = self.x.b.builtin(Builtin::Local);
        let end = self.x.b.i32(patches as i32);
        let mut b = self.take();
        b.repeat([local, end], self.invocations as i32, &[], |b, patch, _| {
            std::mem::swap(&mut self.x.b, b);
            let b2 = &mut self.x.b;
            // What lies side by side in memory is read side by side.
            let (depth, quad) = match by_rows {
                true => {
                    let quad = b2.rem(patch, (planes * row_quads) as i32);
                    (b2.div(patch, (planes * row_quads) as i32), quad)
                }
                false => {
                    let quad = b2.div(patch, depth_quads as i32);
                    (b2.rem(patch, depth_quads as i32), quad)
                }
            };
            let plane = b2.div(quad, row_quads as i32);
            let in_plane = match planes {
                1 => quad,
                _ => b2.rem(quad, row_quads as i32),
            };
            let row = b2.times(in_plane, 4);
            let row = b2.add(row, copy.rows);
            let depth = b2.times(depth, 4);
            let within = b2.add(depth, offset);
            let column = b2.add(within, copy.columns);
            let lines = self.patch(view, (tile, copy), [plane, row, column]);
            let b2 = &mut self.x.b;
            let base = b2.times(depth, (planes * row_quads) as i32);
            let base = b2.add(base, quad);
            let base = b2.plus(base, first as i32);
            for (line, value) in lines.into_iter().enumerate() {
                let place = b2.plus(base, (line * planes * row_quads) as i32);
                b2.store(Memory::Shared(self.shared), place, value);
            }
            std::mem::swap(&mut self.x.b, b);
            Vec::new()
        });
        self.x.b = b;
    }

    /// Whether the rows of a factor, not its depth, lie side by side.
    fn patches_by_rows(&self, tile: TileId, view: &View) -> bool {
        let own = self.program.tile(tile);
        !self.deep_quads(tile, view)
            && own.rows.is_multiple_of(4)
            && self.x.arguments.shows_quads(view, Along::Rows)
    }

    /// Whether quads along the depth are loaded as such.
    fn deep_quads(&self, tile: TileId, view: &View) -> bool {
        let own = self.program.tile(tile);
        let columns: usize = view.columns().iter().product();
        (own.columns.is_multiple_of(4) || own.columns >= columns)
            && self.x.arguments.shows_quads(view, Along::Columns)
    }

    /// Four rows by four depths: for each depth the quad of rows, 0 beyond the ends.
    fn patch(
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
        let own = self.program.tile(tile);
        let rows_total: usize = view.rows().iter().product();
        let columns_total: usize = view.columns().iter().product();
        let overhang = !rows_total.is_multiple_of(own.rows) || !own.rows.is_multiple_of(4);
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let deep_end = !columns_total.is_multiple_of(own.columns) || !own.columns.is_multiple_of(4);
        let valid = |b: &mut Builder, row: Value, column: Value| {
            let mut valid = None;
            if overhang {
                valid = Some(b.binary(Binary::Less, row, copy.ends[0]));
            }
            if deep_end {
                let inside = b.binary(Binary::Less, column, copy.ends[1]);
                valid = Some(match valid {
                    Some(valid) => b.and(valid, inside),
                    None => inside,
                });
            }
            valid
        };
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

    /// See [`Step::Online`]: scores become weights, in shared memory, and what was summed before
    /// is scaled.
    fn online(
        &mut self,
        (scores, acc): (TileId, TileId),
        scale: f32,
        causal: bool,
        mask: Option<usize>,
    ) {
        let (layout, seat) = self.layout(scores);
        let values = self.values[&scores].clone();
        let values = self.masked(&layout, &seat, &values, (scale, causal, mask), scores);
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
                    across(b, Binary::Max, most)
                })
                .collect();
            let largest = b.compose(&largest);
            let quad = layout.row_quad(b, &seat, number);
            let line = b.times(seat.column, layout.row_quads as i32);
            let place = b.add(line, quad);
            places.push(quad);
            guarded(b, seat.works, |b| b.store(shared, place, largest));
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
                    sum = Some(match sum {
                        Some(sum) => b.add(sum, weight),
                        None => weight,
                    });
                }
                let sum = sum.expect("a row has columns");
                sums.push(across(b, Binary::Add, sum));
            }
            let sums = b.compose(&sums);
            next.largest[number] = most;
            next.sums[number] = b.fma(online.sums[number], factor, sums);
            // One invocation of each row tells the others by how much sums shrink.
            let zero = b.i32(0);
            let first = b.binary(Binary::Equal, seat.column, zero);
            let first = match seat.works {
                Some(works) => b.and(first, works),
                None => first,
            };
            let place = b.plus(place, first_row);
            b.when(first, |b| b.store(shared, place, factor));
        }
        for number in 0..layout.own_rows() {
            for quad in 0..quads {
                let column = layout.column_quad(b, &seat, quad);
                let column = b.times(column, 4 * layout.row_quads as i32);
                let place = b.add(column, places[number]);
                let place = b.plus(place, self.staging as i32);
                guarded(b, seat.works, |b| {
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
        (scale, causal, mask): (f32, bool, Option<usize>),
        scores: TileId,
    ) -> Vec<(Value, Option<Value>)> {
        let tile = self.program.tile(scores);
        let (first, step) = self.depth.expect("scores lie in the loop over keys");
        let keys = self.keys();
        let partial = !keys.is_multiple_of(step) || !tile.columns.is_multiple_of(4);
        let program = self.program;
        let arguments = &self.x.arguments;
        let b = &mut self.x.b;
        let end = b.plus(first, step as i32);
        let most = b.i32(keys as i32);
        let end = b.binary(Binary::Min, end, most);
        let scale = functions::number(b, scale, 4);
        let mut found = Vec::with_capacity(values.len());
        for row in 0..layout.own_rows() * 4 {
            let quad = layout.row_quad(b, seat, row / 4);
            let query = b.times(quad, 4);
            let query = b.plus(query, (row % 4) as i32);
            let query = b.add(query, self.origins[0]);
            for number in 0..layout.own_columns() {
                let quad = layout.column_quad(b, seat, number);
                let key = b.times(quad, 4);
                let key = b.add(key, first);
                let mut score = values[layout.place(row, 0, number)];
                score = b.mul(score, scale);
                let mut keeps: Vec<Option<Value>> = vec![None; 4];
                let mut lanes: Vec<Value> = Vec::new();
                if partial || causal || mask.is_some() {
                    for lane in 0..4 {
                        let key = b.plus(key, lane as i32);
                        let mut keep = None;
                        let both = |b: &mut Builder, a: Option<Value>, c: Value| match a {
                            Some(a) => Some(b.and(a, c)),
                            None => Some(c),
                        };
                        if partial {
                            let inside = b.binary(Binary::Less, key, end);
                            keep = both(b, keep, inside);
                        }
                        if causal {
                            let seen = b.binary(Binary::LessEqual, key, query);
                            keep = both(b, keep, seen);
                        }
                        let mut own = b.extract(score, lane as u8);
                        if let Some(mask) = mask {
                            let view = &program.views[mask];
                            let rows: usize = view.rows().iter().product();
                            let row_exists = b.below(query, rows as i32);
                            let key_exists = b.below(key, keys as i32);
                            let valid = b.and(row_exists, key_exists);
                            let zero = b.i32(0);
                            let at = At {
                                batch: self.batch,
                                plane: zero,
                                row: query,
                                column: key,
                            };
                            let shown = arguments.read(b, view, at, Width::One, Some(valid));
                            match view.access.dtype.is_float() {
                                true => own = b.add(own, shown),
                                false => {
                                    let seen = super::address::truth(b, shown);
                                    keep = both(b, keep, seen);
                                }
                            }
                        }
                        keeps[lane] = keep;
                        if let Some(keep) = keep {
                            let least = b.f32(LEAST);
                            own = b.select(keep, own, least);
                        }
                        lanes.push(own);
                    }
                    score = b.compose(&lanes);
                }
                let keep = keeps.iter().copied().collect::<Option<Vec<Value>>>();
                let keep = keep.map(|keep| {
                    let keep = b.compose(&keep);
                    b.convert(Scalar::F32, keep)
                });
                found.push((score, keep));
            }
        }
        found
    }

    /// How many keys there are.
    fn keys(&self) -> usize {
        let loops = self.program.body.iter().find_map(|step| match step {
            Step::Loop { extent, .. } => Some(*extent),
            Step::Zero { .. }
            | Step::Copy { .. }
            | Step::Mma { .. }
            | Step::Online { .. }
            | Step::Normalize { .. }
            | Step::Rows { .. }
            | Step::Gather { .. }
            | Step::Store { .. } => None,
        });
        loops.expect("attention loops over keys")
    }

    /// See [`Step::Normalize`].
    fn normalize(&mut self, acc: TileId) {
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
            guarded(b, seat.works, |b| b.store(shared, place, sums));
        }
        b.barrier();
        for &quad in &quads {
            let mut sum: Option<Value> = None;
            for other in 0..layout.invocations[1] {
                let place = b.plus(quad, (other * layout.row_quads) as i32);
                let part = b.load(shared, place);
                sum = Some(match sum {
                    Some(sum) => b.add(sum, part),
                    None => part,
                });
            }
            let sum = sum.expect("a row has invocations");
            // Without any key the weighted sum is 0, whatever it is divided by.
            let least = functions::number(b, f32::MIN_POSITIVE, 4);
            let sum = b.binary(Binary::Max, sum, least);
            let one = functions::number(b, 1.0, 4);
            let factor = b.binary(Binary::Div, one, sum);
            let zero = b.i32(0);
            let first = b.binary(Binary::Equal, seat.column, zero);
            let first = match seat.works {
                Some(works) => b.and(first, works),
                None => first,
            };
            let place = b.plus(quad, first_row);
            b.when(first, |b| b.store(shared, place, factor));
        }
        b.barrier();
        self.scale_rows(acc, first_row);
    }

    /// The epilogue on what each invocation holds.
    fn store(&mut self, tile: Option<TileId>) {
        let tile = tile.expect("a product is stored");
        let (layout, seat) = self.layout(tile);
        let values = self.values[&tile].clone();
        let own = self.program.tile(tile);
        let region = self.x.region;
        let epilogues = super::epilogue::all(region, &self.program.outputs, &self.x.arguments);
        let [rows, columns] = [self.program.rows, self.program.columns];
        let rows_overhang = !rows.is_multiple_of(own.rows) || !own.rows.is_multiple_of(4);
        let columns_overhang =
            !columns.is_multiple_of(own.columns) || !own.columns.is_multiple_of(4);
        for epilogue in &epilogues {
            for number in 0..layout.own_columns() {
                let b = &mut self.x.b;
                let quad = layout.column_quad(b, &seat, number);
                let column = b.times(quad, 4);
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
                    let mut holds = seat.works;
                    if !everywhere {
                        let zero = b.i32(0);
                        let after = b.binary(Binary::LessEqual, zero, column);
                        let before = b.below(column, epilogue.views.columns as i32);
                        let inside = b.and(after, before);
                        holds = Some(match holds {
                            Some(holds) => b.and(holds, inside),
                            None => inside,
                        });
                    }
                    let place = Place {
                        layout: &layout,
                        seat: &seat,
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
                    guarded(b, holds, |b| place.column(b, arguments, epilogue));
                }
            }
        }
    }
}

/// One column, or quad of columns, of what an invocation stores.
struct Place<'a> {
    layout: &'a Layout,
    seat: &'a Seat,
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
    fn column(
        &self,
        b: &mut Builder,
        arguments: &super::address::Arguments<'_>,
        epilogue: &super::epilogue::Epilogue<'_>,
    ) {
        let layout = self.layout;
        let zero = b.i32(0);
        let at = At {
            batch: self.batch,
            plane: zero,
            row: zero,
            column: self.column,
        };
        let fixed = epilogue.fixed(b, arguments, at);
        for row in 0..layout.own_rows() * 4 {
            let quad = layout.row_quad(b, self.seat, row / 4);
            let in_block = b.times(quad, 4);
            let in_block = b.plus(in_block, (row % 4) as i32);
            let at = At {
                row: b.add(in_block, self.origin),
                ..at
            };
            let compute = |b: &mut Builder| {
                let mut anchor = |b: &mut Builder, plane: usize| {
                    let value = self.values[layout.place(row, plane, self.quad)];
                    match self.lane {
                        Some(lane) => b.extract(value, lane),
                        None => value,
                    }
                };
                let value = epilogue.compute(b, arguments, at, &fixed, &mut anchor);
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

/// The lanes of a value, put together.
pub(crate) fn across(b: &mut Builder, function: Binary, x: Value) -> Value {
    let [first, second, third, last] = [0, 1, 2, 3].map(|lane| b.extract(x, lane));
    let low = b.binary(function, first, second);
    let high = b.binary(function, third, last);
    b.binary(function, low, high)
}

/// Only invocations that work.
pub(crate) fn guarded(b: &mut Builder, works: Option<Value>, then: impl FnOnce(&mut Builder)) {
    match works {
        None => then(b),
        Some(works) => b.when(works, then),
    }
}
