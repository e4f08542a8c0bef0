//! Copies into tiles: the factors of products in panels, transformed on the way where the program
//! says so, or rows.
//!
//! Takes a view and the part of it that the block is at, fills the tile's memory; a factor that was
//! packed ahead is only looked up, or widened.

use compiler::tile::{Origin, TileId, Transform};

use super::{Slot, Worker};
use crate::cpu::copy::{self, Part};
use crate::cpu::kernel::widen::widen;
use crate::cpu::kernel::winograd::lanes::Side;
use crate::cpu::tiles::{Layout, floats, padded, panels};
use crate::cpu::winograd;

impl Worker<'_> {
    pub(super) fn copy(
        &mut self,
        tile: TileId,
        view: usize,
        origins: [Origin; 2],
        transform: Option<Transform>,
    ) {
        let (kernel, machine) = (self.kernel, self.kernel.machine);
        let walk = &kernel.walks[view];
        let extent = |axes: &[usize]| axes.iter().product::<usize>();
        let rows = self.range(origins[0], extent(walk.rows()));
        let columns = self.range(origins[1], extent(walk.columns()));
        let mut slot = Slot {
            rows: rows.len(),
            columns: columns.len(),
            ..Slot::default()
        };
        if let Some((own, panels)) = kernel.ahead()
            && own == tile
        {
            let panel = rows.start / machine.columns();
            let matrix = match walk.batch().is_empty() {
                true => 0,
                false => self.block.batch,
            };
            let column = columns.start * machine.columns();
            let first = matrix * panels.batch_stride + panel * panels.panel_stride + column;
            match kernel.packed_bits() {
                None => {
                    slot.panel_stride = panels.panel_stride;
                    slot.plane_stride = panels.plane_stride;
                    slot.packed = Some(first);
                }
                Some((bits, narrow)) => {
                    let count = slot.rows.div_ceil(machine.columns());
                    slot.panel_stride = slot.columns * machine.columns();
                    slot.plane_stride = count * slot.panel_stride;
                    let planes = kernel.program.tile(tile).planes;
                    let out = self.memory(tile).chunks_exact_mut(slot.panel_stride);
                    for (number, out) in out.take(planes * count).enumerate() {
                        let plane = number / count * panels.plane_stride;
                        let start = first + plane + number % count * panels.panel_stride;
                        widen(machine, out, &bits[start..][..out.len()], narrow);
                    }
                }
            }
            self.slots[tile.0 as usize] = slot;
            return;
        }
        let mut part = Part {
            batch: self.block.batch,
            plane: 0,
            rows,
            columns,
        };
        let planes = kernel.program.tile(tile).planes;
        let cells = self.cells;
        match kernel.layouts[tile.0 as usize] {
            layout @ (Layout::Left | Layout::Right) => {
                let [count, height] = match layout {
                    Layout::Left => panels(slot.rows, machine.rows()),
                    Layout::Right | Layout::Rows | Layout::Across | Layout::Dense => {
                        let width = machine.columns();
                        [slot.rows.div_ceil(width), width]
                    }
                };
                slot.height = height;
                slot.panel_stride = height * slot.columns;
                slot.plane_stride = count * slot.panel_stride;
                if let Some([step, _]) = kernel.kept[tile.0 as usize] {
                    let size = floats(&kernel.program, layout, tile.0 as usize, machine);
                    slot.first = self.block.rows.start / step.max(1) * size;
                    if self.block.depth.start > 0 {
                        self.slots[tile.0 as usize] = slot;
                        return;
                    }
                }
                let plane_stride = slot.plane_stride;
                let out = &mut self.memory(tile)[slot.first..];
                match transform {
                    Some(Transform::WinogradInput(results)) if layout == Layout::Right => {
                        let side = (results, Side::Image);
                        winograd::along(machine, walk, cells, &part, side, height, out);
                    }
                    Some(Transform::WinogradInput(results)) => {
                        winograd::input(machine, walk, cells, &part, results, height, out);
                    }
                    Some(Transform::WinogradGradient(results)) => {
                        let side = (results, Side::Gradient);
                        winograd::along(machine, walk, cells, &part, side, height, out);
                    }
                    Some(
                        Transform::WinogradWeight(_)
                        | Transform::WinogradOutput(_)
                        | Transform::WinogradWeightGradient(_),
                    )
                    | None => {
                        for plane in 0..planes {
                            part.plane = plane;
                            let out = &mut out[plane * plane_stride..][..plane_stride];
                            copy::panels(machine, walk, cells, &part, height, out);
                        }
                    }
                }
            }
            Layout::Rows | Layout::Across | Layout::Dense => {
                slot.panel_stride = machine.columns();
                let stride = padded(kernel.program.tile(tile).columns, machine);
                slot.plane_stride = stride * slot.rows;
                copy::rows(walk, cells, &part, stride, self.memory(tile));
            }
        }
        self.slots[tile.0 as usize] = slot;
    }
}
