//! Block programs: which part of a region's result each block computes, and how.
//!
//! Takes tiles, views and steps, returns the grid, the bytes of a block's tiles and the operations
//! of its products. Nothing here chooses a size.

use super::step::{Step, Tile, TileId, Transform};
use super::{OutputViews, View};
use crate::region::RegionId;

/// A region as blocks compute it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockProgram {
    /// The program: the name of its file.
    pub program: &'static str,
    /// The region.
    pub region: RegionId,
    /// Independent products.
    pub batch: usize,
    /// Rows of the result, without planes.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Rows and columns that one block computes: the grid is `batch`, then the parts of `columns`,
    /// then those of `rows`, the last one innermost.
    pub block: [usize; 2],
    /// The tiles; a [`TileId`] is a position in this list.
    pub tiles: Vec<Tile>,
    /// How operands of the anchor are read.
    pub views: Vec<View>,
    /// How the epilogue of each output reads, and how it stores.
    pub outputs: Vec<OutputViews>,
    /// What a block does.
    pub body: Vec<Step>,
}

impl BlockProgram {
    /// What is known of a tile.
    ///
    /// # Panics
    /// When it is of another program.
    pub fn tile(&self, tile: TileId) -> &Tile {
        &self.tiles[tile.0 as usize]
    }

    /// Blocks of the grid: batch, parts of columns, parts of rows.
    pub fn grid(&self) -> [usize; 3] {
        [
            self.batch,
            self.columns.div_ceil(self.block[1].max(1)),
            self.rows.div_ceil(self.block[0].max(1)),
        ]
    }

    /// Every step, those of loops included, in the order of the text form.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let mut open = vec![self.body.iter()];
        std::iter::from_fn(move || {
            while let Some(steps) = open.last_mut() {
                if let Some(step) = steps.next() {
                    open.push(step.body().iter());
                    return Some(step);
                }
                open.pop();
            }
            None
        })
    }

    /// Bytes of all tiles of one block. Transformed weights are made once, when they are loaded,
    /// and lie elsewhere.
    pub fn tile_bytes(&self) -> usize {
        let is_loaded = |number: usize| {
            self.steps().any(|step| {
                matches!(step, Step::Copy { tile, transform: Some(Transform::WinogradWeight(_)), .. }
                    if tile.0 as usize == number)
            })
        };
        let tiles = self.tiles.iter().enumerate();
        let tiles = tiles.filter(|(number, _)| !is_loaded(*number));
        tiles.map(|(_, tile)| tile.elements()).sum::<usize>() * size_of::<f32>()
    }

    /// Floating-point operations of all products as they are executed, a multiply-add counted as
    /// two: fewer than those of the sums themselves where tiles are transformed.
    pub fn product_flops(&self) -> u64 {
        let part = |extent: usize, part: usize| extent as f64 / part.max(1) as f64;
        let blocks = part(self.rows, self.block[0]) * part(self.columns, self.block[1]);
        (self.batch as f64 * blocks * self.products(&self.body)).round() as u64
    }

    /// See [`BlockProgram::product_flops`]: those of some steps of one block.
    fn products(&self, steps: &[Step]) -> f64 {
        let of_step = |step: &Step| {
            if let Step::Mma { acc, left, .. } = step {
                let elements = self.tile(*acc).elements() as f64;
                return 2.0 * elements * self.tile(*left).columns as f64;
            }
            if let Step::Loop {
                extent, step, body, ..
            } = step
            {
                return *extent as f64 / (*step).max(1) as f64 * self.products(body);
            }
            0.0
        };
        steps.iter().map(of_step).sum()
    }
}
