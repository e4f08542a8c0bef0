//! Block programs on a processor: one routine per step.
//!
//! Takes a block program and the buffers of a run, computes blocks of its grid. Steps over whole
//! tiles are few and long, so that walking the list of them costs nothing.

mod attention;
mod backward;
mod copies;
mod fold;
mod store;

use std::ops::Range;

use compiler::region::{Buffer, Region, Regions};
use compiler::tile::{BlockProgram, Origin, Step, TileId, Transform};
use compiler::value::array::Fault;

use super::arena::{Arena, Cells};
use super::epilogue::{COLUMNS, Epilogue, Partial, State};
use super::fold::Folding;
use super::kernel::machine::Machine;
use super::kernel::mma::{Acc, Left, Right, Start, mma};
use super::kernel::widen::Narrow;
use super::kernel::winograd::weights::Precision;
use super::row_operators::RowOperator;
use super::tiles::{Layout, floats, kept, layouts, padded};
use super::walk::Walk;
use super::weights::{Elements, Packed, Packing, Panels};

/// Results of one tile of a transform at most: 4×4.
const RESULTS_MAX: usize = 16;

/// A right factor that changes is packed ahead where that takes at most so many times the memory of
/// what it is packed from.
const FRESH_MOST: usize = 4;

/// A block program ready to run.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) program: BlockProgram,
    machine: Machine,
    walks: Vec<Walk>,
    epilogues: Vec<Epilogue>,
    layouts: Vec<Layout>,
    /// Which tiles keep all their copies, and how: see [`kept`].
    kept: Vec<Option<[usize; 2]>>,
    /// Where each tile begins in the scratch memory of a thread, in floats.
    offsets: Vec<usize>,
    /// Where the maxima and sums of an online softmax lie, and the results of a transform.
    statistics: usize,
    made: usize,
    /// Floats of scratch memory.
    pub(crate) scratch: usize,
    row_operator: Option<RowOperator>,
    folding: Option<Folding>,
    /// The right factor, where it is the same in every run.
    packed: Option<(TileId, Packed)>,
    /// The right factor, where it is packed anew for each launch, and its view.
    fresh: Option<(TileId, usize, Packing)>,
}

/// What one thread works in.
pub(crate) struct Worker<'a> {
    kernel: &'a Kernel,
    cells: &'a [Cells],
    scratch: &'a mut [f32],
    /// The right factor that was packed ahead.
    right: &'a [f32],
    states: Vec<State>,
    partials: Vec<Partial>,
    /// What a fold keeps of its rows.
    kept: Vec<f64>,
    /// What each tile holds now.
    slots: Vec<Slot>,
    block: Block,
    /// What maxima of an online softmax are still to be multiplied with.
    maxima_scale: f32,
}

/// Which part of the result a block computes, and where its loops are.
#[derive(Debug, Clone, Default)]
struct Block {
    number: usize,
    batch: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    depth: Range<usize>,
}

/// What a tile holds.
#[derive(Debug, Clone, Default)]
struct Slot {
    rows: usize,
    columns: usize,
    /// Rows of a panel, of a left factor.
    height: usize,
    /// Floats between planes and between panels.
    plane_stride: usize,
    panel_stride: usize,
    /// Where this copy begins in the memory of the tile, of those that are kept.
    first: usize,
    /// The first float in the right factor that was packed ahead, if it lies there.
    packed: Option<usize>,
    /// Whether it is zero, and nothing was written yet.
    zero: bool,
}

/// Which keys queries do not see.
#[derive(Debug, Clone, Copy)]
struct Hidden {
    /// Whether those behind them.
    causal: bool,
    /// The view of what is added to scaled scores, or of the truth that a key is seen.
    mask: Option<usize>,
}

impl Kernel {
    /// Prepares a program; `None` if a node of the epilogue has no function on f32.
    pub(crate) fn new(
        program: &BlockProgram,
        region: &Region,
        regions: &Regions,
        machine: Machine,
    ) -> Option<Kernel> {
        let layouts = layouts(program);
        let mut kernel = Kernel {
            walks: program
                .views
                .iter()
                .map(|view| Walk::new(view, regions))
                .collect(),
            epilogues: Epilogue::all(program, region, regions)?,
            row_operator: RowOperator::of(&region.anchor),
            folding: Folding::of(
                &program.body,
                &region.anchor,
                program.grid().iter().product(),
            ),
            program: program.clone(),
            machine,
            kept: kept(program, &layouts),
            layouts,
            offsets: Vec::new(),
            statistics: 0,
            made: 0,
            scratch: 0,
            packed: None,
            fresh: None,
        };
        kernel.arrange();
        Some(kernel)
    }

    /// Gives every tile its place; what was packed ahead and is read as it lies needs none.
    fn arrange(&mut self) {
        let (program, machine) = (&self.program, self.machine);
        let elsewhere = match self.packed_bits() {
            Some(_) => None,
            None => self.ahead().map(|(tile, _)| tile),
        };
        let mut offsets = Vec::with_capacity(self.layouts.len());
        let mut scratch = 0;
        for (tile, layout) in self.layouts.iter().enumerate() {
            offsets.push(scratch);
            if elsewhere != Some(TileId(tile as u32)) {
                let copies = self.kept[tile].map_or(1, |[_, count]| count);
                scratch += copies * floats(program, *layout, tile, machine);
            }
        }
        let statistics = scratch;
        let made = statistics + 2 * padded(program.block[0], machine);
        scratch = made + RESULTS_MAX * padded(program.columns.min(COLUMNS), machine);
        self.offsets = offsets;
        self.statistics = statistics;
        self.made = made;
        self.scratch = scratch;
    }

    /// The right factor that could be packed once: its tile, its view, and its transform.
    fn right_factor(&self) -> Option<(TileId, usize, Option<Transform>)> {
        let mut found = None;
        self.program.steps().for_each(|step| {
            // Blocks of columns begin at whole panels; the rows of queries need not.
            if let Step::Copy {
                tile,
                view,
                rows: Origin::Columns,
                transform,
                ..
            } = step
                && self.layouts[tile.0 as usize] == Layout::Right
                && matches!(transform, None | Some(Transform::WinogradWeight(_)))
            {
                found = Some((*tile, *view, *transform));
            }
        });
        found
    }

    /// The buffers of the right factor that could be packed once, by number.
    pub(crate) fn packable(&self) -> Vec<usize> {
        let right = self.right_factor();
        right.map_or(Vec::new(), |(_, view, _)| {
            self.walks[view].buffers().collect()
        })
    }

    /// Packs the right factor; `false` without memory for it.
    pub(crate) fn pack(&mut self, cells: &[Cells]) -> bool {
        let right = self.right_factor();
        let packed = right.and_then(|(tile, view, transform)| {
            let packed = Packed::new(&self.walks[view], transform, cells, self.machine)?;
            Some((tile, packed))
        });
        self.packed = packed;
        self.arrange();
        self.packed.is_some()
    }

    /// Decides whether the right factor, which is not the same in every run, is packed ahead for
    /// each launch: where several parts of rows read it, or it is transformed. `false` where it
    /// would have to be, but is too large to count.
    pub(crate) fn renew(&mut self, regions: &Regions) -> bool {
        let Some((tile, view, transform)) = self.right_factor() else {
            return true;
        };
        let walk = &self.walks[view];
        let fresh = Packing::new(walk, transform, Precision::Single, self.machine);
        let Some(fresh) = fresh else {
            return transform.is_none();
        };
        let mut read: Vec<usize> = walk.buffers().collect();
        read.sort_unstable();
        read.dedup();
        let elements = |&buffer: &usize| regions.buffer(Buffer(buffer as u32)).extents.elements();
        let read: usize = read.iter().map(elements).sum();
        let [batch, _, parts] = self.program.grid();
        let passes = match fresh.panels.batch_stride {
            0 => batch * parts,
            _ => parts,
        };
        let small = fresh.panels.elements() <= FRESH_MOST.saturating_mul(read);
        if transform.is_some() || (passes > 1 && small) {
            self.fresh = Some((tile, view, fresh));
            self.arrange();
        }
        true
    }

    /// Floats of the right factor that is packed anew for each launch.
    pub(crate) fn fresh_floats(&self) -> usize {
        let fresh = self.fresh.as_ref();
        fresh.map_or(0, |(.., fresh)| fresh.panels.elements())
    }

    /// Packs the right factor for a launch, if it is packed anew for each, on all threads.
    pub(crate) fn refresh(&self, cells: &[Cells], out: &mut Arena) {
        if let Some((_, view, fresh)) = &self.fresh {
            fresh.pack(&self.walks[*view], cells, self.machine, out.as_floats_mut());
        }
    }

    /// The buffers that it reads when it runs: not those that were packed.
    pub(crate) fn reads(&self) -> Vec<usize> {
        let mut reads: Vec<usize> = Vec::new();
        let packed = self.packed.as_ref().and_then(|_| self.right_factor());
        for (number, walk) in self.walks.iter().enumerate() {
            if packed.is_none_or(|(_, view, _)| view != number) {
                reads.extend(walk.buffers());
            }
        }
        reads.extend(self.epilogues.iter().flat_map(Epilogue::reads));
        reads
    }

    /// The right factor that is packed ahead, and where its elements lie.
    fn ahead(&self) -> Option<(TileId, Panels)> {
        let packed = self.packed.as_ref();
        let packed = packed.map(|(tile, packed)| (*tile, packed.panels));
        let fresh = self.fresh.as_ref();
        packed.or(fresh.map(|(tile, _, fresh)| (*tile, fresh.panels)))
    }

    /// The packed weights, where they can be used as they lie.
    fn packed_floats(&self) -> Option<&[f32]> {
        match self.packed.as_ref()?.1.elements() {
            Elements::Floats(floats) => Some(floats),
            Elements::Bits(..) => None,
        }
    }

    /// The packed weights, where they must be widened.
    fn packed_bits(&self) -> Option<(&[u16], Narrow)> {
        match self.packed.as_ref()?.1.elements() {
            Elements::Floats(_) => None,
            Elements::Bits(bits, narrow) => Some((bits, narrow)),
        }
    }

    /// Bytes of packed weights.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |(_, packed)| packed.bytes())
    }

    /// Blocks of the grid.
    pub(crate) fn blocks(&self) -> usize {
        self.program.grid().iter().product()
    }

    /// Computes some blocks on one thread, with what [`Kernel::refresh`] packed; gives the moments
    /// of each.
    ///
    /// # Errors
    /// When the data lies outside of the region's domain.
    pub(crate) fn run(
        &self,
        blocks: Range<usize>,
        cells: &[Cells],
        scratch: &mut Arena,
        fresh: &Arena,
    ) -> Result<Vec<Partial>, Fault> {
        let mut worker = self.worker(cells, scratch);
        if self.fresh.is_some() {
            worker.right = fresh.as_floats();
        }
        for number in blocks {
            worker.start(number);
            worker.steps(&self.program.body)?;
        }
        Ok(worker.partials)
    }

    fn worker<'a>(&'a self, cells: &'a [Cells], scratch: &'a mut Arena) -> Worker<'a> {
        let written: Vec<usize> = self.epilogues.iter().flat_map(Epilogue::writes).collect();
        let states = self.epilogues.iter();
        let states = states.map(|epilogue| epilogue.state(cells, &written));
        Worker {
            kernel: self,
            cells,
            scratch: scratch.as_floats_mut(),
            right: self.packed_floats().unwrap_or_default(),
            states: states.collect(),
            partials: Vec::new(),
            kept: Vec::new(),
            slots: vec![Slot::default(); self.program.tiles.len()],
            block: Block::default(),
            maxima_scale: 1.0,
        }
    }

    /// Merges the moments of all blocks.
    pub(crate) fn merge(&self, mut partials: Vec<Partial>, cells: &[Cells]) {
        partials.sort_by_key(Partial::order);
        for (output, epilogue) in self.epilogues.iter().enumerate() {
            let own = partials
                .iter()
                .filter(|partial| partial.order().0 == output);
            epilogue.merge(&own.collect::<Vec<_>>(), cells);
        }
    }
}

impl Worker<'_> {
    fn start(&mut self, number: usize) {
        let program = &self.kernel.program;
        let [_, across, down] = program.grid();
        let [rows, columns] = program.block;
        let row = number % down * rows;
        let column = number / down % across * columns;
        self.block = Block {
            number,
            batch: number / (down * across),
            rows: row..(row + rows).min(program.rows),
            columns: column..(column + columns).min(program.columns),
            depth: 0..0,
        };
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Fault> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::Zero { tile } => self.zero(*tile),
            Step::Copy {
                tile,
                view,
                rows,
                columns,
                transform,
            } => self.copy(*tile, *view, [*rows, *columns], *transform),
            Step::Mma { acc, left, right } => self.mma(*acc, *left, *right),
            Step::Online {
                scores,
                acc,
                scale,
                causal,
                mask,
            } => {
                let hidden = Hidden {
                    causal: *causal,
                    mask: *mask,
                };
                self.online([*scores, *acc], *scale as f32, hidden);
            }
            Step::Normalize { acc } => self.normalize(*acc),
            Step::LogSum { acc } => self.log_sum(*acc),
            Step::Weigh {
                scores,
                changes,
                log_sum,
                results,
                scale,
                causal,
                mask,
            } => {
                self.statistics(*log_sum, *results);
                let hidden = Hidden {
                    causal: *causal,
                    mask: *mask,
                };
                self.weigh([*scores, *changes], *scale as f32, hidden);
            }
            Step::Transpose { from, to } => self.transpose(*from, *to),
            Step::AddRows {
                acc,
                from,
                first,
                rows,
            } => self.add_rows(*acc, *from, first + self.range(*rows, 0).start),
            Step::Rows { from, to } => self.rows(*from, *to),
            // The loop around it takes all in.
            Step::Fold { .. } => {}
            Step::Gather {
                tile,
                table,
                indices,
            } => self.gather(*tile, *table, *indices)?,
            Step::Loop { extent, .. } if self.kernel.folding.is_some() => {
                self.fold_whole(*extent);
                self.end_fold();
            }
            Step::Loop {
                over,
                extent,
                step,
                body,
                ..
            } => {
                let whole = self.range(*over, *extent);
                for start in (0..*extent).step_by((*step).max(1)) {
                    let part = start..(start + step).min(*extent);
                    self.set_range(*over, part);
                    self.steps(body)?;
                }
                self.set_range(*over, whole);
            }
            Step::Store { tile, transform } => self.store(*tile, *transform),
        }
        Ok(())
    }

    fn range(&self, origin: Origin, extent: usize) -> Range<usize> {
        match origin {
            Origin::Zero => 0..extent,
            Origin::Rows => self.block.rows.clone(),
            Origin::Columns => self.block.columns.clone(),
            Origin::Depth => self.block.depth.clone(),
        }
    }

    fn set_range(&mut self, origin: Origin, range: Range<usize>) {
        match origin {
            Origin::Zero => {}
            Origin::Rows => self.block.rows = range,
            Origin::Columns => self.block.columns = range,
            Origin::Depth => self.block.depth = range,
        }
    }

    /// The memory of a tile.
    fn memory(&mut self, tile: TileId) -> &mut [f32] {
        &mut self.scratch[self.kernel.offsets[tile.0 as usize]..]
    }

    fn zero(&mut self, tile: TileId) {
        let slot = &mut self.slots[tile.0 as usize];
        *slot = Slot {
            zero: true,
            ..Slot::default()
        };
        self.begin_fold();
    }

    fn mma(&mut self, acc: TileId, left: TileId, right: TileId) {
        let (kernel, machine) = (self.kernel, self.kernel.machine);
        let across = kernel.layouts[acc.0 as usize] == Layout::Across;
        // Across, the transposed product is computed: the factors change sides.
        let [first, second] = if across { [right, left] } else { [left, right] };
        let (a, b) = (
            self.slots[first.0 as usize].clone(),
            self.slots[second.0 as usize].clone(),
        );
        let data = kernel.program.tile(acc);
        let width = machine.columns();
        let start = match self.slots[acc.0 as usize].zero {
            true => Start::Zero,
            false => Start::Load,
        };
        let (row_stride, panel_stride) = match across {
            true => (width, width * data.columns),
            false => (padded(data.columns, machine), width),
        };
        self.slots[acc.0 as usize] = Slot {
            rows: self.slots[left.0 as usize].rows,
            columns: self.slots[right.0 as usize].rows,
            panel_stride,
            plane_stride: row_stride * data.rows,
            ..Slot::default()
        };
        let depth = self.slots[first.0 as usize].columns;
        let sizes = [a.rows, b.rows, depth];
        let planes = data.planes;
        let (a_planes, b_planes) = (
            kernel.program.tile(first).planes,
            kernel.program.tile(second).planes,
        );
        let scratch = &mut *self.scratch;
        for plane in 0..planes {
            let a_first = kernel.offsets[first.0 as usize]
                + a.first
                + if a_planes > 1 {
                    plane * a.plane_stride
                } else {
                    0
                };
            let b_first = if b_planes > 1 {
                plane * b.plane_stride
            } else {
                0
            };
            let acc_first = kernel.offsets[acc.0 as usize] + plane * row_stride * data.rows;
            // The accumulator lies behind its factors in the scratch memory.
            let (near, acc_data) = scratch.split_at_mut(acc_first);
            let b_data = match b.packed {
                Some(start) => &self.right[start + b_first..],
                None => &near[kernel.offsets[second.0 as usize] + b_first..],
            };
            mma(
                machine,
                Acc {
                    data: acc_data,
                    row_stride,
                    panel_stride,
                },
                Left {
                    data: &near[a_first..],
                    height: a.height,
                    panel_stride: a.panel_stride,
                },
                Right {
                    data: b_data,
                    panel_stride: b.panel_stride,
                },
                sizes,
                start,
            );
        }
    }

    fn rows(&mut self, from: TileId, to: TileId) {
        let kernel = self.kernel;
        let Some(operator) = kernel.row_operator else {
            return;
        };
        let source = self.slots[from.0 as usize].clone();
        let stride = |tile: TileId| padded(kernel.program.tile(tile).columns, kernel.machine);
        let columns = kernel.program.tile(to).columns;
        let parameters: Vec<Vec<f32>> = kernel.walks[1..]
            .iter()
            .map(|walk| {
                let mut values = vec![0.0; walk.columns().iter().product()];
                walk.read(self.cells, &mut walk.index(0, 0, 0), 0, &mut values);
                values
            })
            .collect();
        let offsets = [from, to].map(|tile| kernel.offsets[tile.0 as usize]);
        let (near, made) = self.scratch.split_at_mut(offsets[1]);
        for row in 0..source.rows {
            let x = &near[offsets[0] + row * stride(from)..][..source.columns];
            let out = &mut made[row * stride(to)..][..columns];
            operator.apply(x, &parameters, out);
        }
        self.slots[to.0 as usize] = Slot {
            rows: source.rows,
            columns,
            ..Slot::default()
        };
    }

    fn gather(&mut self, tile: TileId, table: usize, indices: usize) -> Result<(), Fault> {
        let kernel = self.kernel;
        let (table, list) = (&kernel.walks[table], &kernel.walks[indices]);
        let count: usize = table.rows().iter().product();
        let columns: usize = table.columns().iter().product();
        let stride = padded(kernel.program.tile(tile).columns, kernel.machine);
        let cells = self.cells;
        let rows = self.block.rows.clone();
        for (number, row) in rows.clone().enumerate() {
            let named = match list.find(&list.index(0, 0, row)) {
                Some(run) => cells[run.buffer].integer(run.at),
                None => list.fill() as i64,
            };
            let found = compiler::ops::wrap_index(named, count)?;
            let mut index = table.index(0, 0, found);
            let out = &mut self.memory(tile)[number * stride..][..columns];
            table.read(cells, &mut index, 0, out);
        }
        self.slots[tile.0 as usize] = Slot {
            rows: rows.len(),
            columns,
            ..Slot::default()
        };
        Ok(())
    }
}
