//! The last step of a block: tiles through the epilogues of a region's outputs.
//!
//! Takes a tile, or nothing where the epilogue reads operands only, and feeds its rows to each
//! output that has some of the block's columns; several rows at a time where they follow one
//! another.

use std::ops::Range;

use compiler::tile::{TileId, Transform};

use super::Worker;
use crate::cpu::epilogue::{COLUMNS, Place};
use crate::cpu::tiles::{Layout, padded};
use crate::cpu::winograd;

impl Worker<'_> {
    pub(super) fn store(&mut self, tile: Option<TileId>, transform: Option<Transform>) {
        let kernel = self.kernel;
        for output in 0..kernel.epilogues.len() {
            let epilogue = &kernel.epilogues[output];
            let own = epilogue.first_column..epilogue.first_column + epilogue.columns;
            let block = self.block.columns.clone();
            let common = own.start.max(block.start)..own.end.min(block.end);
            let starts = common.clone().step_by(COLUMNS);
            for start in starts {
                let part = start..(start + COLUMNS).min(common.end);
                epilogue.turn(&mut self.states[output]);
                match (tile, transform) {
                    (Some(tile), Some(Transform::WinogradOutput(results))) => {
                        self.store_points(output, tile, [results; 2], part);
                    }
                    (Some(tile), Some(Transform::WinogradWeightGradient(results))) => {
                        self.store_points(output, tile, [results, 3], part);
                    }
                    (Some(tile), _) => self.store_tile(output, tile, part),
                    (None, _) => self.store_rows(output, part),
                }
                let number = self.block.number;
                let partial = epilogue.end(&mut self.states[output], output, number);
                self.partials.extend(partial);
            }
        }
    }

    /// The place of a row of an output.
    fn place(&self, output: usize, row: usize, part: &Range<usize>) -> Place {
        Place {
            batch: self.block.batch,
            plane: 0,
            row: self.block.rows.start + row,
            column: part.start - self.kernel.epilogues[output].first_column,
            count: part.len(),
            rows: 1,
        }
    }

    /// One row through the epilogue of an output.
    fn row<'b>(&mut self, output: usize, place: Place, anchor: impl Fn(usize) -> &'b [f32]) {
        let epilogue = &self.kernel.epilogues[output];
        let state = &mut self.states[output];
        if epilogue.changes_image(state, place) {
            let partial = epilogue.end(state, output, self.block.number);
            self.partials.extend(partial);
        }
        epilogue.row(state, self.cells, place, anchor);
    }

    fn store_rows(&mut self, output: usize, part: Range<usize>) {
        let epilogue = &self.kernel.epilogues[output];
        let count = self.block.rows.len();
        let mut row = 0;
        while row < count {
            let mut place = self.place(output, row, &part);
            place.rows = epilogue.together(place.row, part.len(), count - row);
            self.row(output, place, |_| &[]);
            row += place.rows;
        }
    }

    fn store_tile(&mut self, output: usize, tile: TileId, part: Range<usize>) {
        let kernel = self.kernel;
        let width = kernel.machine.columns();
        let data = kernel.program.tile(tile);
        let layout = kernel.layouts[tile.0 as usize];
        let across = layout == Layout::Across;
        let offset = kernel.offsets[tile.0 as usize];
        let stride = match layout {
            Layout::Dense => data.columns,
            Layout::Left | Layout::Right | Layout::Rows | Layout::Across => {
                padded(data.columns, kernel.machine)
            }
        };
        let first = part.start - self.block.columns.start;
        // The tile is read while the epilogue's own state changes.
        let scratch = std::mem::take(&mut self.scratch);
        let epilogue = &kernel.epilogues[output];
        let columns = part.len();
        let in_place = !across && (stride == columns || epilogue.is_plain());
        // Rows that are computed as one, next to each other, of each plane.
        let size = if in_place {
            0
        } else {
            COLUMNS.max(columns * width)
        };
        let mut straight = vec![0.0; data.planes * size];
        let count = self.block.rows.len();
        let mut row = 0;
        while row < count {
            let mut place = self.place(output, row, &part);
            let most = match across {
                true => width - row % width,
                false if in_place && stride != columns => 1,
                false => count - row,
            };
            place.rows = epilogue.together(place.row, columns, most.min(count - row));
            let start = offset + row * stride + first;
            let plane = data.rows * stride;
            if in_place {
                self.row(output, place, |number| &scratch[start + number * plane..]);
            } else if across {
                if row % width == 0 {
                    let panel = &scratch[offset + row * data.columns + first * width..];
                    for (lane, out) in straight.chunks_exact_mut(columns).take(width).enumerate() {
                        for (column, out) in out.iter_mut().enumerate() {
                            *out = panel[column * width + lane];
                        }
                    }
                }
                let rows = &straight[row % width * columns..];
                self.row(output, place, |_| rows);
            } else {
                for (number, straight) in straight.chunks_exact_mut(size).enumerate() {
                    let tile = &scratch[start + number * plane..];
                    let rows = straight.chunks_exact_mut(columns).zip(tile.chunks(stride));
                    rows.take(place.rows)
                        .for_each(|(out, row)| out.copy_from_slice(&row[..columns]));
                }
                self.row(output, place, |number| &straight[number * size..]);
            }
            row += place.rows;
        }
        self.scratch = scratch;
    }

    /// The points of tiles of so many results, or in the end so many taps of a kernel, each way.
    fn store_points(
        &mut self,
        output: usize,
        tile: TileId,
        [tile_results, results]: [usize; 2],
        part: Range<usize>,
    ) {
        let kernel = self.kernel;
        let data = kernel.program.tile(tile);
        let stride = padded(data.columns, kernel.machine);
        let offset = kernel.offsets[tile.0 as usize];
        let first = part.start - self.block.columns.start;
        let scratch = std::mem::take(&mut self.scratch);
        let (tiles, made) = scratch.split_at_mut(kernel.made);
        let wide = padded(part.len(), kernel.machine);
        for row in 0..self.block.rows.len() {
            let points = &tiles[offset + row * stride + first..];
            let plane = data.rows * stride;
            winograd::output(
                kernel.machine,
                (points, plane),
                part.len(),
                tile_results,
                (made, wide),
                results != tile_results,
            );
            let epilogue = &kernel.epilogues[output];
            let whole = wide == part.len() && part.len() == epilogue.columns;
            let together = whole && epilogue.together(0, part.len(), results) == results;
            for line in 0..results {
                let mut place = self.place(output, row, &part);
                place.plane = line * results + results - 1;
                let inside = together && epilogue.holds(&mut self.states[output], place);
                // Lines of pixels that the border cuts go pixel by pixel.
                let (count, rows) = if inside { (1, results) } else { (results, 1) };
                for point in 0..count {
                    place.plane = line * results + point;
                    place.rows = rows;
                    let made = &made[place.plane * wide..][..part.len() * rows];
                    self.row(output, place, |_| made);
                }
            }
        }
        self.scratch = scratch;
    }
}
