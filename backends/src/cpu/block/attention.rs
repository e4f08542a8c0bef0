//! The steps of attention: the online softmax of a tile of scores, and the division at the end, or
//! the logarithm of what would be divided by.
//!
//! Takes scores that lie across, queries along the lanes, and masks of a view. The softmax itself
//! is the kernels'.

use std::ops::Range;

use compiler::DType;
use compiler::tile::TileId;

use super::{Hidden, Slot, Worker};
use crate::cpu::arena::Cells;
use crate::cpu::kernel::online::{self, Running};
use crate::cpu::math::map_in_place;
use crate::cpu::walk::Walk;

impl Worker<'_> {
    /// Scores that lie across become weights; what they leave of sums is scaled.
    pub(super) fn online(
        &mut self,
        [scores, acc]: [TileId; 2],
        scale: f32,
        Hidden { causal, mask }: Hidden,
    ) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let tile = |tile: TileId| kernel.program.tile(tile);
        let slot = self.slots[scores.0 as usize].clone();
        let (deep, wide) = (tile(scores).columns, tile(acc).columns);
        let fresh = self.slots[acc.0 as usize].zero;
        let offsets = [scores, acc].map(|tile| kernel.offsets[tile.0 as usize]);
        let statistics = kernel.statistics;
        let (keys, first_query) = (self.block.depth.clone(), self.block.rows.start);
        for panel in 0..slot.rows.div_ceil(width) {
            let queries = (slot.rows - panel * width).min(width);
            let (near, far) = self.scratch.split_at_mut(offsets[1]);
            let s = &mut near[offsets[0] + panel * deep * width..][..slot.columns * width];
            // What is added is added to scaled scores.
            let own = match mask.is_some() || scale < 0.0 {
                true => {
                    scale_scores(s, scale);
                    1.0
                }
                false => scale,
            };
            self.maxima_scale = own;
            if let Some(mask) = mask {
                let walk = &kernel.walks[mask];
                let place = (self.block.batch, first_query + panel * width, queries);
                add_mask(walk, self.cells, place, keys.clone(), s, width);
            }
            if causal {
                hide_later(s, width, first_query + panel * width, keys.start);
            }
            let (o, rest) = far.split_at_mut(statistics - offsets[1]);
            let [maximum, sum] = [0, 1].map(|which| (2 * panel + which) * width);
            let (maxima, sums) = rest[..(2 * panel + 2) * width].split_at_mut(sum);
            let (maxima, sums) = (&mut maxima[maximum..], &mut sums[..width]);
            if keys.start == 0 {
                maxima.fill(f32::NEG_INFINITY);
                sums.fill(0.0);
            }
            let o = match fresh {
                true => &mut [][..],
                false => &mut o[panel * wide * width..][..wide * width],
            };
            let running = Running {
                most: &mut maxima[..width],
                sum: sums,
            };
            online::step(kernel.machine, s, own, running, o);
        }
    }

    /// Logarithms of the sums of weights, of all keys together.
    pub(super) fn log_sum(&mut self, acc: TileId) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let offset = kernel.offsets[acc.0 as usize];
        let (rows, scale) = (self.block.rows.len(), self.maxima_scale);
        let (near, statistics) = self.scratch.split_at_mut(kernel.statistics);
        let pairs = statistics.chunks_exact(2 * width);
        for (out, pair) in near[offset..][..rows].chunks_mut(width).zip(pairs) {
            let (maxima, sums) = pair.split_at(width);
            for ((out, &most), &sum) in out.iter_mut().zip(maxima).zip(sums) {
                // Without any key the maximum is minus infinity, whatever it is multiplied with.
                *out = match sum == 0.0 {
                    true => f32::NEG_INFINITY,
                    false => most * scale + sum.ln(),
                };
            }
        }
        self.slots[acc.0 as usize] = Slot {
            rows,
            columns: 1,
            ..Slot::default()
        };
    }

    /// Weighted sums are divided by the sums of their weights.
    pub(super) fn normalize(&mut self, acc: TileId) {
        let (kernel, width) = (self.kernel, self.kernel.machine.columns());
        let slot = self.slots[acc.0 as usize].clone();
        let wide = kernel.program.tile(acc).columns;
        let offset = kernel.offsets[acc.0 as usize];
        let (near, statistics) = self.scratch.split_at_mut(kernel.statistics);
        if slot.zero {
            // Without any key nothing was added: the result is 0.
            let rows = self.block.rows.len();
            near[offset..][..rows.next_multiple_of(width) * wide].fill(0.0);
            self.slots[acc.0 as usize] = Slot {
                rows,
                columns: wide,
                ..Slot::default()
            };
            return;
        }
        for panel in 0..slot.rows.div_ceil(width) {
            let o = &mut near[offset + panel * wide * width..][..wide * width];
            let sums = &statistics[(2 * panel + 1) * width..][..width];
            online::finish(kernel.machine, o, sums);
        }
    }
}

pub(super) fn scale_scores(scores: &mut [f32], scale: f32) {
    map_in_place(scores, |s| s * scale);
}

/// Adds what a mask says of `[keys]` × queries, which lie along the lanes.
fn add_mask(
    walk: &Walk,
    cells: &[Cells],
    (batch, first, queries): (usize, usize, usize),
    keys: Range<usize>,
    scores: &mut [f32],
    width: usize,
) {
    let mut row = vec![0.0; keys.len()];
    let truth = walk.buffers().any(|b| cells[b].dtype == DType::Bool);
    for query in 0..queries {
        let mut index = walk.index(batch, 0, first + query);
        walk.read(cells, &mut index, keys.start, &mut row);
        for (key, &value) in row.iter().enumerate() {
            let score = &mut scores[key * width + query];
            match truth {
                true if value == 0.0 => *score = f32::NEG_INFINITY,
                true => {}
                false => *score += value,
            }
        }
    }
}

/// Keys behind a query get no weight.
fn hide_later(scores: &mut [f32], width: usize, first_query: usize, first_key: usize) {
    for (key, row) in scores.chunks_exact_mut(width).enumerate() {
        let visible = (first_key + key).saturating_sub(first_query).min(width);
        row[..visible].fill(f32::NEG_INFINITY);
    }
}
