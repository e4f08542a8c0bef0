//! Steps of products: contractions and attention, tile by tile.
//!
//! Takes a block program of `mma`s, gives the kernel whose workgroup computes one block. What an
//! `mma` reads from views passes through shared memory in slices of its depth; accumulators stay in
//! registers, shared as [`Layout`] says. Attention's weights are written to shared memory once,
//! as the left factor of the second product.

mod flash;
mod product;
mod softmax;
mod staged;
mod stages;
mod store;
mod warps;

use std::collections::BTreeMap;

use compiler::kernel::{Binary, Builder, Builtin, Scalar, SharedId, Type, Value};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, Origin, Step, TileId};

use super::flash_layout::{self, FlashLayout};
use super::fragment::{self, Layout, Seat};
use super::sight::{LEAST, Scaling};
use super::warp_layout::{self, WarpLayout};
use crate::gpu::expand::expansion::{Expansion, Refusal};
use crate::gpu::expand::functions;
use stages::Stages;

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
    /// How warps share the block, where they compute its product.
    warps: Option<WarpLayout>,
    /// How they share attention.
    flash: Option<FlashLayout>,
    /// Where the factors of warps are near.
    stages: Option<Stages>,
    /// Where the invocation is in its warp.
    seat: Option<warp_layout::Seat>,
    layouts: BTreeMap<TileId, (Layout, Seat)>,
    values: BTreeMap<TileId, Vec<Value>>,
    copied: BTreeMap<TileId, Copied>,
    online: Option<Online>,
    /// Shared memory: staged factors or partial reductions, then weights of attention, then one
    /// number per row; or the factors of warps.
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
        if let Step::Loop { body, .. } = step
            && !sizes(program, body, invocations, quads_max, most)
        {
            return false;
        }
        if let Step::Online { scores, .. } = step {
            let tile = program.tile(*scores);
            let layout = Layout::new(tile, invocations);
            most[0] = most[0].max(layout.row_quads * layout.invocations[1]);
            most[1] = tile.columns.next_multiple_of(4) * layout.row_quads;
            most[2] = layout.row_quads;
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

/// Invocations of a workgroup whose accumulators are quads, and what lies near, see
/// [`shared_quads`].
fn by_quads(program: &BlockProgram, limits: &Limits) -> Result<(usize, [usize; 3]), Refusal> {
    let tile = largest(program).ok_or(Refusal::Steps)?;
    let invocations = fragment::invocations(tile, limits.invocations_max as usize);
    let bytes_max = limits.shared_bytes_max as usize;
    let near = shared_quads(program, invocations, bytes_max).ok_or(Refusal::Shared {
        bytes_max: limits.shared_bytes_max,
    })?;
    let fragments = program.tiles.iter();
    let holds = fragments
        .filter(|tile| tile.scope == compiler::tile::Scope::Fragment)
        .all(|tile| Layout::new(tile, invocations).values() * 4 <= fragment::ELEMENTS_MAX);
    match holds {
        true => Ok((invocations, near)),
        false => Err(Refusal::Registers),
    }
}

/// Expands a program of products.
///
/// # Errors
/// When its tiles do not fit near a workgroup.
pub(crate) fn expand(x: &mut Expansion<'_>, program: &BlockProgram) -> Result<(), Refusal> {
    let limits = x.limits;
    let flash = FlashLayout::of(program, &limits);
    let warps = flash.map(|flash| flash.layout());
    let warps = warps.or_else(|| WarpLayout::of(program, &limits));
    let (invocations, [staging, weights, rows]) = match warps {
        Some(layout) => (layout.invocations(), [0; 3]),
        None => by_quads(program, &limits)?,
    };
    let [batch, columns, rows_of_grid] = program.grid();
    x.begin(program, invocations as u32, [rows_of_grid, columns, batch])?;
    let b = &mut x.b;
    let stages = warps.map(|layout| {
        let program = (program, layout.half);
        Stages::of(b, &x.arguments, program, flash, limits.shared_bytes_max)
    });
    let shared = match &stages {
        Some(stages) => stages.chunks,
        None => {
            let quads = (staging + weights + rows).max(1);
            b.shared("near", F32X4, quads as u32)
        }
    };
    let seat = warps.map(|layout| layout.seat(b));
    let [row, column, batch] = [0, 1, 2].map(|axis| b.builtin(Builtin::Group(axis)));
    let row = b.times(row, program.block[0] as i32);
    let column = b.times(column, program.block[1] as i32);
    let mut blocks = Blocks {
        x,
        program,
        invocations,
        warps,
        flash,
        stages,
        seat,
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
                let count = match (self.flash, self.warps) {
                    (Some(flash), _) => flash.held(*tile),
                    (None, Some(layout)) => layout.values(),
                    (None, None) => self.layout(*tile).0.values(),
                };
                let zero = functions::number(&mut self.x.b, 0.0, 4);
                self.values.insert(*tile, vec![zero; count]);
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
                // What no loop copies is brought near at once.
                if self.flash.is_some() && self.depth.is_none() {
                    self.bring_factor(*tile);
                }
            }
            Step::Mma { acc, left, right } => match (self.flash, self.warps) {
                (Some(flash), _) => self.mma_of_attention(flash, *acc),
                (None, Some(layout)) => self.mma_by_warps(layout, [*acc, *left, *right]),
                (None, None) => self.mma(*acc, *left, *right),
            },
            Step::Online {
                scores,
                acc,
                scale,
                causal,
                mask,
            } => {
                let scaling = Scaling {
                    scale: *scale as f32,
                    causal: *causal,
                    mask: *mask,
                };
                match self.flash {
                    Some(flash) => self.online_by_warps(flash, scaling),
                    None => self.online((*scores, *acc), scaling),
                }
            }
            Step::Normalize { acc } => match self.flash {
                Some(flash) => self.normalize_by_warps(flash),
                None => self.normalize(*acc),
            },
            Step::Loop {
                over: _,
                extent,
                step,
                stages: _,
                body,
            } => self.repeat(*extent, *step, body),
            Step::Store { tile, .. } => self.store(*tile),
            Step::Rows { .. }
            | Step::Fold { .. }
            | Step::Gather { .. }
            | Step::LogSum { .. }
            | Step::Weigh { .. }
            | Step::Transpose { .. }
            | Step::AddRows { .. } => {
                unreachable!(
                    "programs of rows, and of attention in training, are expanded elsewhere"
                )
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
        let scores = body.iter().find_map(|step| {
            let Step::Online { scores, .. } = step else {
                return None;
            };
            Some(*scores)
        });
        if let Some(scores) = scores {
            let [largest, sums] = [LEAST, 0.0].map(|number| match self.flash {
                Some(_) => flash_layout::kept(&mut self.x.b, number),
                None => {
                    let rows = self.layout(scores).0.own_rows();
                    vec![functions::number(&mut self.x.b, number, 4); rows]
                }
            });
            self.online = Some(Online {
                scores,
                largest,
                sums,
            });
        }
        // Layouts that the body needs are made before it.
        let by_quads = self.warps.is_none();
        for number in (0..self.program.tiles.len()).filter(|_| by_quads) {
            let tile = TileId(number as u32);
            if self.program.tile(tile).scope == compiler::tile::Scope::Fragment {
                self.layout(tile);
            }
        }
        if self.stages.is_some() {
            return self.repeat_staged([extent, step], body);
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
        let results = self.looped([start, end], step as i32, &initial, |me, counter, seen| {
            me.set_state(seen);
            me.depth = Some((counter, step));
            me.steps(body);
            me.state()
        });
        self.depth = outer;
        self.set_state(&results);
    }

    /// Repeats what `body` does with all that was expanded so far, as [`Builder::repeat`] does.
    fn looped(
        &mut self,
        range: [Value; 2],
        step: i32,
        initial: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let none = Builder::new("", Vec::new(), 1, [1; 3]);
        let mut b = std::mem::replace(&mut self.x.b, none);
        let results = b.repeat(range, step, initial, |b, counter, seen| {
            std::mem::swap(&mut self.x.b, b);
            let next = body(self, counter, seen);
            std::mem::swap(&mut self.x.b, b);
            next
        });
        self.x.b = b;
        results
    }

    /// Expands `then` where the condition holds.
    fn guarded(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        let none = Builder::new("", Vec::new(), 1, [1; 3]);
        let mut b = std::mem::replace(&mut self.x.b, none);
        b.when(condition, |b| {
            std::mem::swap(&mut self.x.b, b);
            then(self);
            std::mem::swap(&mut self.x.b, b);
        });
        self.x.b = b;
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
}
