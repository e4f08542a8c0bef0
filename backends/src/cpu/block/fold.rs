//! The loop of a fold: parts of rows from their buffers into what is kept of them.
//!
//! Takes a fold and a range of its steps, reads in place what lies as f32 side by side and copies
//! the rest into the tile. Long rows are cut by their shape alone: as many threads as there are
//! fold the pieces, which join in their order.

use std::ops::Range;

use compiler::tile::TileId;

use super::{Kernel, Worker};
use crate::cpu::arena::{Arena, Cells};
use crate::cpu::fold::Folding;
use crate::cpu::tiles::padded;
use crate::cpu::walk::Walk;

impl Kernel {
    /// Pieces into which the blocks of a fold are cut; 1 for all that blocks compute whole.
    pub(crate) fn pieces(&self) -> usize {
        self.folding.map_or(1, |folding| folding.pieces)
    }

    /// Folds some pieces, numbered block by block; gives what each kept.
    pub(crate) fn fold(
        &self,
        pieces: Range<usize>,
        cells: &[Cells],
        scratch: &mut Arena,
    ) -> Vec<Vec<f64>> {
        let Some(folding) = self.folding else {
            return Vec::new();
        };
        let mut worker = self.worker(cells, scratch);
        let fold = |piece: usize| {
            worker.start(piece / folding.pieces);
            worker.begin_fold();
            worker.fold(folding.piece(piece % folding.pieces));
            std::mem::take(&mut worker.kept)
        };
        pieces.map(fold).collect()
    }

    /// Joins what the pieces of each block kept, and stores the blocks.
    pub(crate) fn store_folded(&self, kept: &[Vec<f64>], cells: &[Cells], scratch: &mut Arena) {
        let Some(folding) = self.folding else { return };
        let mut worker = self.worker(cells, scratch);
        for (block, pieces) in kept.chunks(folding.pieces.max(1)).enumerate() {
            worker.start(block);
            worker.begin_fold();
            for piece in pieces {
                folding.fold.join(&mut worker.kept, piece);
            }
            worker.end_fold();
            worker.store(Some(folding.acc), None);
        }
    }
}

impl Worker<'_> {
    /// Begins the rows, or columns, of the block.
    pub(super) fn begin_fold(&mut self) {
        let Some(folding) = self.kernel.folding else {
            return;
        };
        let count = match folding.down {
            true => self.block.columns.len(),
            false => self.block.rows.len(),
        };
        self.kept.clear();
        let size = count * folding.fold.kept();
        self.kept.resize(size, folding.fold.start());
    }

    /// Takes in all of the rows.
    pub(super) fn fold_whole(&mut self, extent: usize) {
        self.fold(0..extent);
    }

    /// Takes in some elements of each row.
    fn fold(&mut self, elements: Range<usize>) {
        let Some(folding) = self.kernel.folding else {
            return;
        };
        for start in elements.clone().step_by(folding.step) {
            let part = start..(start + folding.step).min(elements.end);
            match folding.down {
                true => self.fold_down(folding, part),
                false => self.fold_rows(folding, part),
            }
        }
    }

    fn fold_rows(&mut self, folding: Folding, part: Range<usize>) {
        let kernel = self.kernel;
        let fold = folding.fold;
        let scratch = std::mem::take(&mut self.scratch);
        let [near, other] = near(kernel, folding, scratch);
        let kept = self.kept.chunks_exact_mut(fold.kept());
        let walks = [kernel.walks.first(), kernel.walks.get(1)];
        let mut indices = walks.map(|walk| walk.map(|walk| walk.index(0, 0, 0)));
        for (row, kept) in self.block.rows.clone().zip(kept) {
            let [x, with] = [(0, &mut *near), (1, &mut *other)].map(|(which, out)| {
                match (walks[which], &mut indices[which]) {
                    (Some(walk), Some(index)) => {
                        walk.set_index(index, 0, 0, row);
                        run(walk, self.cells, index, part.start, &mut out[..part.len()])
                    }
                    (_, _) => &[],
                }
            });
            fold.row(kept, x, with);
        }
        self.scratch = scratch;
    }

    /// Rows that follow one another in memory are taken in at once.
    fn fold_down(&mut self, folding: Folding, part: Range<usize>) {
        let kernel = self.kernel;
        let columns = self.block.columns.clone();
        let walks = &kernel.walks;
        let whole = columns.len() == walks[0].columns().iter().product::<usize>();
        let together = match whole && walks.iter().all(Walk::is_flat) {
            true => part.len(),
            false => 1,
        };
        let scratch = std::mem::take(&mut self.scratch);
        let [near, other] = near(kernel, folding, scratch);
        for row in part.clone().step_by(together) {
            let count = together.min(part.end - row) * columns.len();
            let [x, with] = [(0, &mut *near), (1, &mut *other)].map(|(which, out)| {
                let Some(walk) = walks.get(which) else {
                    return &[][..];
                };
                let mut index = walk.index(self.block.batch, 0, row);
                match together {
                    1 => run(
                        walk,
                        self.cells,
                        &mut index,
                        columns.start,
                        &mut out[..count],
                    ),
                    _ => flat(walk, self.cells, &mut index, &mut out[..count]),
                }
            });
            folding.fold.down(&mut self.kept, x, with);
        }
        self.scratch = scratch;
    }

    /// Writes what the rows came to into the accumulator's tile.
    pub(super) fn end_fold(&mut self) {
        let Some(folding) = self.kernel.folding else {
            return;
        };
        let tile = self.kernel.program.tile(folding.acc);
        let stride = match folding.down {
            true => 1,
            false => padded(tile.columns, self.kernel.machine),
        };
        let numbers = if folding.down { 1 } else { tile.columns };
        let kept = std::mem::take(&mut self.kept);
        let memory = self.memory(folding.acc);
        for (row, kept) in kept.chunks_exact(folding.fold.kept()).enumerate() {
            let out = &mut memory[row * stride..][..numbers];
            folding.fold.finish(kept, folding.extent, out);
        }
        self.kept = kept;
    }
}

/// The tiles of the factors: the second is empty where there is one.
fn near<'a>(kernel: &Kernel, folding: Folding, scratch: &'a mut [f32]) -> [&'a mut [f32]; 2] {
    let offset = |tile: Option<TileId>| {
        let tile = tile.unwrap_or(folding.acc);
        kernel.offsets[tile.0 as usize]
    };
    let (first, second) = scratch.split_at_mut(offset(folding.factors[1]));
    [&mut first[offset(folding.factors[0])..], second]
}

/// Elements of a row from `column` on: in place, or copied into `out`.
fn run<'a>(
    walk: &Walk,
    cells: &'a [Cells],
    index: &mut [usize],
    column: usize,
    out: &'a mut [f32],
) -> &'a [f32] {
    walk.set_column(index, column);
    if walk.run_length(column, out.len()) == out.len()
        && let Some(found) = walk.find(index)
        && found.stride == 1
        && let Some(run) = cells[found.buffer].run(found.at, out.len())
    {
        return run;
    }
    walk.read(cells, index, column, out);
    out
}

/// Rows that follow one another: in place, or copied into `out`.
fn flat<'a>(walk: &Walk, cells: &'a [Cells], index: &mut [usize], out: &'a mut [f32]) -> &'a [f32] {
    walk.set_column(index, 0);
    let found = walk.find(index);
    match found.and_then(|run| cells[run.buffer].run(run.at, out.len())) {
        Some(run) => run,
        None => {
            walk.load(cells, index, out);
            out
        }
    }
}
