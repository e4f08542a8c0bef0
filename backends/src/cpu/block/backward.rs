//! The steps of the gradient of attention: weights from the logarithms of their sums, tiles the
//! other way round, and sums of rows.
//!
//! Takes scores that lie across, keys along the lanes, and numbers of queries from views. Products
//! are those of every program.

use std::ops::Range;

use compiler::DType;
use compiler::tile::TileId;

use super::attention::scale_scores;
use super::{Hidden, Slot, Worker};
use crate::cpu::arena::Cells;
use crate::cpu::kernel::pack;
use crate::cpu::kernel::weigh::{Queries, weigh};
use crate::cpu::walk::Walk;

/// Columns that are turned at a time.
const COLUMNS: usize = 64;

impl Worker<'_> {
    /// Numbers of the queries of this block, made with the first part of the keys: the logarithms
    /// of sums of weights, then the products of results and their gradients.
    pub(super) fn statistics(&mut self, log_sum: usize, [result, gradient]: [usize; 2]) {
        if self.block.depth.start > 0 {
            return;
        }
        let (kernel, cells, batch) = (self.kernel, self.cells, self.block.batch);
        let walks = [log_sum, result, gradient].map(|view| &kernel.walks[view]);
        let columns: usize = walks[1].columns().iter().product();
        let queries: usize = walks[1].rows().iter().product();
        let mut rows = vec![0.0; 2 * columns];
        let (r, dr) = rows.split_at_mut(columns);
        let numbers = &mut self.scratch[kernel.statistics..][..2 * queries];
        let (sums, products) = numbers.split_at_mut(queries);
        let mut index = vec![0; walks.iter().map(|walk| walk.rank()).max().unwrap_or(0)];
        for query in self.block.rows.clone() {
            let mut read = |walk: &Walk, out: &mut [f32]| {
                let index = &mut index[..walk.rank()];
                walk.set_index(index, batch, 0, query);
                walk.read(cells, index, 0, out);
            };
            read(walks[0], &mut sums[query..=query]);
            read(walks[1], r);
            read(walks[2], dr);
            // A query without keys has no weights, whatever its result is.
            products[query] = match sums[query] == f32::NEG_INFINITY {
                true => 0.0,
                false => r.iter().zip(&*dr).map(|(r, dr)| r * dr).sum(),
            };
        }
    }

    /// Scores become weights, and products of values and gradients become gradients of scores.
    pub(super) fn weigh(&mut self, [scores, changes]: [TileId; 2], scale: f32, hidden: Hidden) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let slot = self.slots[scores.0 as usize].clone();
        let queries = self.block.rows.clone();
        let count: usize = kernel.program.views[0].rows().iter().product();
        let stride = kernel.program.tile(scores).columns * width;
        let (near, statistics) = self.scratch.split_at_mut(kernel.statistics);
        let (sums, products) = statistics[..2 * count].split_at(count);
        let (near, far) = near.split_at_mut(kernel.offsets[changes.0 as usize]);
        let near = &mut near[kernel.offsets[scores.0 as usize]..];
        for panel in 0..slot.rows.div_ceil(width) {
            let s = &mut near[panel * stride..][..queries.len() * width];
            let c = &mut far[panel * stride..][..queries.len() * width];
            let first = self.block.depth.start + panel * width;
            let keys = first..self.block.depth.end.min(first + width);
            // What is added is added to scaled scores, and what is hidden stays so.
            let scaled = hidden.mask.is_some() || hidden.causal && scale <= 0.0;
            if scaled {
                scale_scores(s, scale);
            }
            if let Some(mask) = hidden.mask {
                let walk = &kernel.walks[mask];
                add_mask(walk, self.cells, self.block.batch, &queries, &keys, s);
            }
            if hidden.causal {
                for (query, row) in queries.clone().zip(s.chunks_exact_mut(width)) {
                    let visible = (query + 1).saturating_sub(first).min(width);
                    row[visible..].fill(f32::NEG_INFINITY);
                }
            }
            let numbers = Queries {
                log_sums: &sums[queries.clone()],
                products: &products[queries.clone()],
            };
            let before = if scaled { 1.0 } else { scale };
            weigh(kernel.machine, [s, c], numbers, [before, scale]);
        }
    }

    /// A tile that lies across, the other way round.
    pub(super) fn transpose(&mut self, from: TileId, to: TileId) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let source = self.slots[from.0 as usize].clone();
        let tile = |tile: TileId| kernel.program.tile(tile);
        let strides = [from, to].map(|own| tile(own).columns * width);
        let offsets = [from, to].map(|own| kernel.offsets[own.0 as usize]);
        let (near, far) = self.scratch.split_at_mut(offsets[1]);
        let read = &near[offsets[0]..];
        for first in (0..source.columns).step_by(width) {
            let lines = width.min(source.columns - first);
            let out = &mut far[first / width * strides[1]..][..source.rows * width];
            for (panel, out) in out.chunks_mut(width * width).enumerate() {
                let deep = out.len() / width;
                let line = |number: usize| {
                    let at = panel * strides[0] + (first + number) * width;
                    Some(&read[at..][..deep])
                };
                let mut rows = [None; COLUMNS];
                for (number, row) in rows[..lines].iter_mut().enumerate() {
                    *row = line(number);
                }
                pack::panel(kernel.machine, out, [lines, deep], width, &rows[..lines]);
            }
        }
        self.slots[to.0 as usize] = Slot {
            rows: source.columns,
            columns: source.rows,
            panel_stride: strides[1],
            ..Slot::default()
        };
    }

    /// Rows of a tile that lies across are added to those of sums from `first` on.
    pub(super) fn add_rows(&mut self, acc: TileId, from: TileId, first: usize) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let source = self.slots[from.0 as usize].clone();
        let (tile, data) = (kernel.program.tile(from), kernel.program.tile(acc));
        let offsets = [from, acc].map(|own| kernel.offsets[own.0 as usize]);
        let (near, far) = self.scratch.split_at_mut(offsets[1]);
        let sums = &mut far[..data.rows * data.columns];
        if self.slots[acc.0 as usize].zero {
            sums.fill(0.0);
        }
        let read = &near[offsets[0]..];
        let mut turned = vec![0.0; width * COLUMNS];
        for start in (0..source.rows).step_by(width) {
            let count = width.min(source.rows - start);
            for column in (0..tile.columns).step_by(COLUMNS) {
                let lines = COLUMNS.min(tile.columns - column);
                let panel = &read[start * tile.columns + column * width..][..lines * width];
                let mut rows = [None; COLUMNS];
                for (row, line) in rows.iter_mut().zip(panel.chunks_exact(width)) {
                    *row = Some(&line[..count]);
                }
                let sizes = [lines, count];
                pack::panel(kernel.machine, &mut turned, sizes, COLUMNS, &rows[..lines]);
                for (row, added) in turned.chunks_exact(COLUMNS).take(count).enumerate() {
                    let at = (first + start + row) * data.columns + column;
                    let sums = &mut sums[at..][..lines];
                    for (sum, added) in sums.iter_mut().zip(added) {
                        *sum += added;
                    }
                }
            }
        }
        self.slots[acc.0 as usize] = Slot {
            rows: data.rows,
            columns: data.columns,
            ..Slot::default()
        };
    }
}

/// Adds what a mask says of queries × `keys`, which lie along the lanes.
fn add_mask(
    walk: &Walk,
    cells: &[Cells],
    batch: usize,
    queries: &Range<usize>,
    keys: &Range<usize>,
    scores: &mut [f32],
) {
    let width = scores.len() / queries.len();
    let mut row = vec![0.0; keys.len()];
    let truth = walk.buffers().any(|b| cells[b].dtype == DType::Bool);
    for (query, scores) in queries.clone().zip(scores.chunks_exact_mut(width)) {
        let mut index = walk.index(batch, 0, query);
        walk.read(cells, &mut index, keys.start, &mut row);
        for (score, &value) in scores.iter_mut().zip(&row) {
            match truth {
                true if value == 0.0 => *score = f32::NEG_INFINITY,
                true => {}
                false => *score += value,
            }
        }
    }
}
