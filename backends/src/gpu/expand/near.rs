//! Factors of 16-bit numbers near a workgroup, as whole warps read them.
//!
//! Takes the rows and the depth of a factor, gives where its chunks of 16 bytes are and which
//! fragments a warp loads of them. Chunks of a line change places with its number, so that neither
//! eight lines that a matrix is read from, nor eight chunks that follow each other, meet in a bank.
//! Nothing is brought near here.

use compiler::kernel::{Binary, Builder, MatrixLoad, SharedId, Value};

use super::quads::Along;

/// Numbers of a chunk, and lines and columns of a matrix.
pub(crate) const CHUNK: usize = 8;

/// Chunks of 16 bytes that all banks serve at once.
const AT_ONCE: usize = 8;

/// Where a factor is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    /// The first chunk.
    pub(crate) first: usize,
    /// Rows, of all planes: whole chunks.
    pub(crate) rows: usize,
    /// Numbers of a row: whole chunks.
    pub(crate) deep: usize,
    /// What a line goes along: columns where it is a row, rows where it is all rows at one depth.
    pub(crate) along: Along,
}

/// Which factor of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Near {
    /// A factor whose lines are its rows.
    pub(crate) fn new(first: usize, rows: usize, deep: usize) -> Near {
        Near {
            first,
            rows,
            deep,
            along: Along::Columns,
        }
    }

    pub(crate) fn lines(&self) -> usize {
        match self.along {
            Along::Columns => self.rows,
            Along::Rows => self.deep,
        }
    }

    /// Chunks of a line.
    pub(crate) fn chunks(&self) -> usize {
        self.rows * self.deep / CHUNK / self.lines()
    }

    /// The chunk behind the last.
    pub(crate) fn end(&self) -> usize {
        self.first + self.rows * self.deep / CHUNK
    }

    /// Chunks that change places with each other: as many as lines that would meet in a bank.
    fn group(&self) -> usize {
        1 << self.chunks().trailing_zeros().min(AT_ONCE.trailing_zeros())
    }

    /// What the numbers of chunks in a line differ by from their places; `None` where nothing is
    /// exchanged. It is the same for lines eight apart.
    fn exchange(&self, b: &mut Builder, line: Value) -> Option<Value> {
        let group = self.group();
        if group == 1 {
            return None;
        }
        let turn = b.div(line, (AT_ONCE / group) as i32);
        Some(b.rem(turn, group as i32))
    }

    /// The place of a chunk of a line.
    pub(crate) fn place(&self, b: &mut Builder, line: Value, chunk: Value) -> Value {
        let chunk = match self.exchange(b, line) {
            Some(exchange) => b.binary(Binary::Xor, chunk, exchange),
            None => chunk,
        };
        let first = b.times(line, self.chunks() as i32);
        let place = b.add(first, chunk);
        b.plus(place, self.first as i32)
    }

    /// How the invocation of that number in its warp reads fragments, from the first row of the warp
    /// on, in a stage that begins at a chunk.
    pub(crate) fn reader(
        self,
        b: &mut Builder,
        (side, shared): (Side, SharedId),
        lane: Value,
        first_row: Option<Value>,
        stage: Option<Value>,
    ) -> Reader {
        let in_matrix = b.rem(lane, CHUNK as i32);
        // Matrices of a left factor follow each other along rows first, of a right one along the
        // depth first.
        let lines_first = (side == Side::Left) == (self.along == Along::Columns);
        let (mut line, mut chunk) = match lines_first {
            true => (b.rem(lane, 16), b.div(lane, 16)),
            false => {
                let lower = b.div(lane, 16);
                let lower = b.times(lower, CHUNK as i32);
                let chunk = b.div(lane, CHUNK as i32);
                (b.add(lower, in_matrix), b.rem(chunk, 2))
            }
        };
        if let Some(row) = first_row {
            match self.along {
                Along::Columns => line = b.add(line, row),
                Along::Rows => {
                    let chunks = b.div(row, CHUNK as i32);
                    chunk = b.add(chunk, chunks);
                }
            }
        }
        let exchange = self.exchange(b, in_matrix);
        let base = b.times(line, self.chunks() as i32);
        let mut base = b.plus(base, self.first as i32);
        if let Some(stage) = stage {
            base = b.add(base, stage);
        }
        Reader {
            near: self,
            shared,
            base,
            chunk,
            exchange,
        }
    }
}

/// How an invocation reads fragments.
pub(crate) struct Reader {
    near: Near,
    shared: SharedId,
    /// The first chunk of its line.
    base: Value,
    /// Its chunk.
    chunk: Value,
    exchange: Option<Value>,
}

impl Reader {
    /// A fragment of 16 rows of a left factor; of half the depth, or of all 16.
    pub(crate) fn left(&self, b: &mut Builder, row: usize, depth: usize, half_deep: bool) -> Value {
        let count = if half_deep { 2 } else { 4 };
        self.matrices(b, count, row, depth)
    }

    /// Fragments of 8 rows of a right factor, one or two that follow each other.
    pub(crate) fn right(
        &self,
        b: &mut Builder,
        (row, count): (usize, usize),
        depth: usize,
        half_deep: bool,
    ) -> Vec<Value> {
        match (half_deep, count) {
            (true, _) => (0..count)
                .map(|number| self.matrices(b, 1, row + number * CHUNK, depth))
                .collect(),
            (false, 1) => vec![self.matrices(b, 2, row, depth)],
            (false, _) => {
                let both = self.matrices(b, 4, row, depth);
                let words = [0, 1, 2, 3].map(|lane| b.extract(both, lane));
                vec![b.compose(&words[..2]), b.compose(&words[2..])]
            }
        }
    }

    fn matrices(&self, b: &mut Builder, count: u8, row: usize, depth: usize) -> Value {
        let (line, chunk) = match self.near.along {
            Along::Columns => (row, depth / CHUNK),
            Along::Rows => (depth, row / CHUNK),
        };
        let mut chunk = b.plus(self.chunk, chunk as i32);
        if let Some(exchange) = self.exchange {
            chunk = b.binary(Binary::Xor, chunk, exchange);
        }
        let place = b.add(self.base, chunk);
        let row = b.plus(place, (line * self.near.chunks()) as i32);
        b.load_matrix(MatrixLoad {
            count,
            transposed: self.near.along == Along::Rows,
            shared: self.shared,
            row,
        })
    }
}
