//! Tiles, and the steps of a block over whole tiles.
//!
//! Plain data: what each step means is in its documentation, who may follow whom in the rules of
//! [`super`].

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

impl Tile {
    /// One plane of `rows` by `columns`, near to all threads of the block.
    pub(super) fn shared(name: &'static str, rows: usize, columns: usize) -> Tile {
        Tile {
            name,
            scope: Scope::Shared,
            planes: 1,
            rows,
            columns,
        }
    }

    /// One plane of `rows` by `columns`, in registers.
    pub(super) fn fragment(name: &'static str, rows: usize, columns: usize) -> Tile {
        let scope = Scope::Fragment;
        Tile {
            scope,
            ..Tile::shared(name, rows, columns)
        }
    }

    /// The same tile with another number of planes.
    pub(super) fn with_planes(self, planes: usize) -> Tile {
        Tile { planes, ..self }
    }

    /// Elements of all planes.
    pub fn elements(&self) -> usize {
        self.planes * self.rows * self.columns
    }
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
        /// Parts that are under way at a time, at most: copies run ahead of what computes.
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

impl Step {
    /// A copy of elements as they are.
    pub(super) fn copy(tile: TileId, view: usize, rows: Origin, columns: Origin) -> Step {
        Step::Copy {
            tile,
            view,
            rows,
            columns,
            transform: None,
        }
    }

    /// A product that is added to `acc`.
    pub(super) fn mma(acc: TileId, left: TileId, right: TileId) -> Step {
        Step::Mma { acc, left, right }
    }

    /// `body` for each part of an axis of `extent`.
    pub(super) fn repeat(
        over: Origin,
        extent: usize,
        step: usize,
        stages: usize,
        body: Vec<Step>,
    ) -> Step {
        Step::Loop {
            over,
            extent,
            step,
            stages,
            body,
        }
    }

    /// The epilogue on `tile` as it is.
    pub(super) fn store(tile: TileId) -> Step {
        Step::Store {
            tile: Some(tile),
            transform: None,
        }
    }

    /// The steps of a loop; none of another step.
    pub fn body(&self) -> &[Step] {
        if let Step::Loop { body, .. } = self {
            return body;
        }
        &[]
    }
}
