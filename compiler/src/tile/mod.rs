//! The tile IR (level 2): programs that blocks of threads run over tiles.
//!
//! Takes regions and the numbers of a target, gives one [`BlockProgram`] per region: which block
//! computes which part of the result, the tiles it holds near, and steps over whole tiles. A
//! backend has one routine, or one expansion, per step. This is the only level that carries a
//! schedule; nothing in it names a machine, an instruction or a thread.
//!
//! A program is well formed when
//! * T1: steps name tiles and views that exist, and a loop lies in no other of the same name;
//! * T2: the tiles of an `mma` agree: planes in all three (a left or right tile of one plane serves
//!   all), rows of the left and columns of the right with the accumulator, depth of both; so do
//!   those of other steps on two tiles;
//! * T3: accumulators are fragments, and what is copied is shared;
//! * T4: a tile is written before it is read;
//! * T5: the views that a step copies have the roles that the tile's extents come from;
//! * T6: every output of the region is stored by the last step, and the grid covers it.

mod choose;
mod contest;
mod contraction;
mod outputs;
mod parse;
mod print;
mod programs;
mod tuning;
mod verify;
mod view;

use crate::region::RegionId;

pub use choose::{Choice, LowerOptions, Tiled, candidates, lower};
pub use contest::{Contender, Contest, contests};
pub use outputs::OutputViews;
pub use parse::{TileParseError, parse};
pub use programs::names;
pub use tuning::{Case, Measurement, Tuning};
pub use verify::TileError;
pub use view::{Roles, View};

/// A tile of one program; prints as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId(pub u32);

/// Where a tile lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Near to all threads of the block.
    Shared,
    /// In the registers of the threads, in pieces that the backend lays out.
    Fragment,
}

/// A stack of matrices that a block works on, `[planes, rows, columns]` of f32.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tile {
    /// The name in the text form.
    pub name: &'static str,
    /// Where it lies.
    pub scope: Scope,
    /// Matrices in it.
    pub planes: usize,
    /// Rows of each; the last tile of an axis may be filled in part.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
}

/// Where on its axis a tile begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// At the start.
    Zero,
    /// At the first row of the block.
    Rows,
    /// At the first column of the block, or of the loop over columns.
    Columns,
    /// At the loop over the depth of a product, or over the keys of attention.
    Depth,
}

/// A linear map of the planes of a tile: `m · x · mᵀ` on planes arranged in a square.
///
/// # Source
/// Lavin and Gray 2015 (arXiv 1509.09308), section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    /// `Bᵀ d B`: the points of an input tile, for results of so many rows.
    WinogradInput(usize),
    /// `G g Gᵀ`: the points of a kernel of 3×3.
    WinogradWeight(usize),
    /// `Aᵀ m A`: the results of a tile.
    WinogradOutput(usize),
    /// `A y Aᵀ`: the points of the gradient of a tile's results.
    WinogradGradient(usize),
    /// `Gᵀ m G`: the gradient of a kernel of 3×3.
    WinogradWeightGradient(usize),
}

/// One step of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The tile becomes 0.
    Zero {
        /// The tile.
        tile: TileId,
    },
    /// Elements of a view, 0 where it shows none, transformed on the way.
    Copy {
        /// Where they go.
        tile: TileId,
        /// The view: a position in the program's list.
        view: usize,
        /// The first row.
        rows: Origin,
        /// The first column.
        columns: Origin,
        /// What becomes of the planes.
        transform: Option<Transform>,
    },
    /// `acc[p, i, j] += Σ_k left[p, i, k] · right[p, j, k]`.
    Mma {
        /// The accumulator.
        acc: TileId,
        /// The left factor.
        left: TileId,
        /// The right factor, transposed.
        right: TileId,
    },
    /// The online softmax of `scores[query, key]`: `m' = max(m, max_key scale·s)`,
    /// `s = exp(scale·s − m')`, and what `acc` and the sum held is multiplied by `exp(m − m')`
    /// before the new sum is added.
    ///
    /// # Source
    /// Milakov and Gimelshein 2018 (arXiv 1805.02867), algorithm 3.
    Online {
        /// The scores, which become weights.
        scores: TileId,
        /// What weighted sums were accumulated.
        acc: TileId,
        /// What scores are multiplied with.
        scale: f64,
        /// Whether a query sees no later key.
        causal: bool,
        /// The view of what is added to scaled scores, or of the truth that a key is seen.
        mask: Option<usize>,
    },
    /// `acc[query, …]` divided by the sum of its weights; 0 without any key.
    Normalize {
        /// The weighted sums.
        acc: TileId,
    },
    /// `acc[query, 0]` becomes the logarithm of the sum of its exponentials, as an online softmax
    /// has seen them: `m + log sum`.
    LogSum {
        /// What the online softmax belongs to.
        acc: TileId,
    },
    /// Weights of attention anew, and what the gradient of its result makes of the scores:
    /// `scores[key, query] = exp(scale·s + mask − log_sum[query])`, and `changes` become
    /// `scale · scores · (changes − Σ_column gradient[query, column] · result[query, column])`.
    /// A query whose `log_sum` is −∞ gets 0 of both.
    ///
    /// # Source
    /// Dao 2023 (arXiv 2307.08691), algorithm 2, lines 11 to 14.
    Weigh {
        /// The scores, which become weights.
        scores: TileId,
        /// Products of values and gradients, which become gradients of unscaled scores.
        changes: TileId,
        /// The view of the logarithms of sums: one column.
        log_sum: usize,
        /// The views of the attention's result and of its gradient, a row per query.
        results: [usize; 2],
        /// What scores are multiplied with.
        scale: f64,
        /// Whether a query sees no later key.
        causal: bool,
        /// The view of what is added to scaled scores, or of the truth that a key is seen.
        mask: Option<usize>,
    },
    /// `to[j, i] = from[i, j]`.
    Transpose {
        /// What is read.
        from: TileId,
        /// What becomes of it.
        to: TileId,
    },
    /// `acc[first + origin + i, j] += from[i, j]`.
    AddRows {
        /// The sums; what `from` has no column for stays as it is.
        acc: TileId,
        /// What is added.
        from: TileId,
        /// Rows before those of the origin.
        first: usize,
        /// Where the rows begin.
        rows: Origin,
    },
    /// The region's row operator on each row of a tile.
    Rows {
        /// Whole rows.
        from: TileId,
        /// What becomes of them; as many rows.
        to: TileId,
    },
    /// The region's row operator takes in more of each row: `acc` holds what it needs of all that
    /// it saw, in whatever form and precision, and becomes its result when it is stored. Parts of
    /// a row may be folded apart and joined in their order.
    Fold {
        /// The accumulator.
        acc: TileId,
        /// Parts of the rows.
        from: TileId,
        /// What they are multiplied with.
        with: Option<TileId>,
        /// Whether the columns of a tile are rows of the operand: it is folded down.
        down: bool,
    },
    /// Rows of a table that indices name.
    Gather {
        /// Where they go.
        tile: TileId,
        /// The view of the table: its rows are all that an index can name.
        table: usize,
        /// The view of the indices: one column.
        indices: usize,
    },
    /// The body for each part of an axis.
    Loop {
        /// Which origin advances.
        over: Origin,
        /// The extent of the axis.
        extent: usize,
        /// The part's extent; the last may be smaller.
        step: usize,
        /// Parts that are under way at a time: copies run ahead of what computes.
        stages: usize,
        /// What is done.
        body: Vec<Step>,
    },
    /// The region's epilogue on the anchor's tile, its side reductions, and the stores.
    Store {
        /// The anchor's result; `None` where the epilogue reads operands only.
        tile: Option<TileId>,
        /// What becomes of the planes first.
        transform: Option<Transform>,
    },
}

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

    /// Bytes of all tiles of one block. Transformed weights are made once, when they are loaded,
    /// and lie elsewhere.
    pub fn tile_bytes(&self) -> usize {
        let loaded = |number: usize| transforms_weights(&self.body, TileId(number as u32));
        let elements = |(number, tile): (usize, &Tile)| match loaded(number) {
            true => 0,
            false => tile.planes * tile.rows * tile.columns,
        };
        let tiles = self.tiles.iter().enumerate();
        tiles.map(elements).sum::<usize>() * size_of::<f32>()
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
        let of_step = |step: &Step| match step {
            Step::Mma { acc, left, .. } => {
                let acc = self.tile(*acc);
                let elements = (acc.planes * acc.rows * acc.columns) as f64;
                2.0 * elements * self.tile(*left).columns as f64
            }
            Step::Loop {
                extent, step, body, ..
            } => *extent as f64 / (*step).max(1) as f64 * self.products(body),
            Step::Zero { .. }
            | Step::Copy { .. }
            | Step::Online { .. }
            | Step::Normalize { .. }
            | Step::LogSum { .. }
            | Step::Weigh { .. }
            | Step::Transpose { .. }
            | Step::AddRows { .. }
            | Step::Rows { .. }
            | Step::Fold { .. }
            | Step::Gather { .. }
            | Step::Store { .. } => 0.0,
        };
        steps.iter().map(of_step).sum()
    }
}

/// Whether a step copies transformed weights into `tile`.
fn transforms_weights(steps: &[Step], tile: TileId) -> bool {
    steps.iter().any(|step| match step {
        Step::Copy {
            tile: own,
            transform: Some(Transform::WinogradWeight(_)),
            ..
        } => *own == tile,
        Step::Loop { body, .. } => transforms_weights(body, tile),
        Step::Copy { .. }
        | Step::Zero { .. }
        | Step::Mma { .. }
        | Step::Online { .. }
        | Step::Normalize { .. }
        | Step::LogSum { .. }
        | Step::Weigh { .. }
        | Step::Transpose { .. }
        | Step::AddRows { .. }
        | Step::Rows { .. }
        | Step::Fold { .. }
        | Step::Gather { .. }
        | Step::Store { .. } => false,
    })
}
