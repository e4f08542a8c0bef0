//! Epilogues: the pointwise graph on a row of a tile that is still in cache, its stores, and the
//! moments of what is stored.
//!
//! Takes rows of an anchor's tile, gives nothing: results go to their buffers. Operands that do
//! not change from row to row are read once. Moments are kept per tile and merged in a fixed order
//! at the end, so that threads cannot be seen in them.

use compiler::region::{Buffer, Index, Node, Region, Regions};
use compiler::tile::{BlockProgram, OutputViews};
use compiler::value::tensor::Tensor;

use super::arena::Cells;
use super::functions::{Function, function};
use super::walk::{Affine, Pitch, Run, Walk};

/// Elements that are computed at a time: those of all nodes stay in a first cache.
pub(crate) const COLUMNS: usize = 1024;

/// One output of a region, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Epilogue {
    /// The column of the anchor that is its first.
    pub(crate) first_column: usize,
    /// Its columns.
    pub(crate) columns: usize,
    nodes: Vec<Compiled>,
    /// The axes, columns apart, that each node's values depend on; the anchor's on all.
    depends: Vec<Vec<usize>>,
    store: Walk,
    moments: Option<Moments>,
    /// Neighbouring rows may be computed as one, but not across a row whose number is a multiple of
    /// this. Where the store has planes, they are the rows of neighbouring planes.
    within: usize,
    /// How far such rows lie apart where they are stored.
    pitch: usize,
}

#[derive(Debug, Clone)]
enum Compiled {
    Anchor {
        plane: usize,
    },
    /// Elements of a buffer; those of rows that are computed as one lie `pitch` apart.
    Read {
        walk: Walk,
        pitch: usize,
    },
    Scalar(f32),
    Unary(fn(&mut [f32], &[f32]), usize),
    Binary(fn(&mut [f32], &[f32], &[f32]), [usize; 2]),
}

/// Where the moments of an output go.
#[derive(Debug, Clone)]
struct Moments {
    /// The number of the buffer `[batch, channels, 2]`.
    buffer: usize,
    channels: usize,
    /// The image and the channel of an element, over the axes of the store.
    image: Affine,
    channel: Affine,
}

/// Moments of some columns over the rows of one image in one block.
#[derive(Debug, Clone)]
pub(crate) struct Partial {
    /// The output.
    output: usize,
    /// The block: the order of merging.
    block: usize,
    image: usize,
    channel: usize,
    count: f64,
    /// For each column the mean, then for each the sum of squared differences from it.
    sums: Vec<f32>,
}

/// What one thread keeps while it runs an epilogue.
pub(crate) struct State {
    values: Vec<Vec<f32>>,
    /// Where a node's values lie, if they are read in place.
    borrowed: Vec<Option<Run>>,
    /// How many values of a node are those of the row at `walked`.
    known: Vec<usize>,
    /// What becomes of the buffers that a node reads while the kernel runs.
    fates: Vec<Fate>,
    open: Option<Open>,
    /// The index of the row, and of the one before.
    index: Vec<usize>,
    walked: Vec<usize>,
}

/// What becomes of memory that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing is written there.
    Kept,
    /// Each result replaces the element that it was computed from.
    Replaced,
    /// Other results are written there.
    Written,
}

/// Moments that still grow: shifted by the first row, so that large means cost no digits.
struct Open {
    image: usize,
    channel: usize,
    count: usize,
    shift: Vec<f32>,
    sum: Vec<f32>,
    square: Vec<f32>,
}

/// Which part of an output a row is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) batch: usize,
    pub(crate) plane: usize,
    pub(crate) row: usize,
    /// The first column, of the output.
    pub(crate) column: usize,
    /// Columns, at most [`COLUMNS`].
    pub(crate) count: usize,
    /// Rows that are computed as one: they follow one another, and have all columns.
    pub(crate) rows: usize,
}

impl Epilogue {
    /// The epilogues of a program's region; `None` if a node has no function on f32.
    pub(crate) fn all(
        program: &BlockProgram,
        region: &Region,
        regions: &Regions,
    ) -> Option<Vec<Epilogue>> {
        let outputs = program.outputs.iter().zip(&region.outputs);
        let compiled = outputs.map(|(views, output)| {
            let nodes = output.nodes.iter().enumerate();
            let nodes = nodes.map(|(number, node)| compile(node, number, views, regions));
            let moments = output.moments.map(|buffer| moments(views, buffer, regions));
            let nodes = nodes.collect::<Option<Vec<Compiled>>>()?;
            let store = Walk::new(&views.store, regions);
            let mut epilogue = Epilogue {
                first_column: views.first_column,
                columns: views.columns,
                depends: depends(&nodes, &store),
                nodes,
                store,
                moments,
                within: 1,
                pitch: 0,
            };
            epilogue.join_rows();
            Some(epilogue)
        });
        compiled.collect()
    }

    /// Decides which rows are computed as one.
    fn join_rows(&mut self) {
        let store = &self.store;
        let Pitch { step, mut within } = store.pitch(store);
        self.pitch = step;
        for node in &mut self.nodes {
            if let Compiled::Read { walk, pitch } = node {
                let own = walk.pitch(store);
                *pitch = own.step;
                within = within.min(own.within);
            }
        }
        if let Some(Moments { image, channel, .. }) = &self.moments {
            within = within.min(store.alike(|axis| image.uses(axis) || channel.uses(axis)));
        }
        // With a step of 0 all rows would be stored at one place.
        if step > 0 {
            self.within = within.max(1);
        }
    }

    /// The number of rows of `columns` elements, from `row` on and at most `most`, that may be
    /// computed as one.
    pub(crate) fn together(&self, row: usize, columns: usize, most: usize) -> usize {
        let left = self.within - row % self.within;
        (COLUMNS / columns.max(1)).clamp(1, left).min(most)
    }

    /// Whether it stores the anchor as it is.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.nodes.as_slice(), [Compiled::Anchor { .. }])
    }

    /// The buffers that it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().flat_map(|node| match node {
            Compiled::Read { walk, .. } => walk.buffers().collect(),
            Compiled::Anchor { .. }
            | Compiled::Scalar(_)
            | Compiled::Unary(..)
            | Compiled::Binary(..) => Vec::new(),
        })
    }

    /// The buffers that it writes while blocks are computed.
    pub(crate) fn writes(&self) -> impl Iterator<Item = usize> {
        self.store.buffers()
    }

    /// What a thread needs to run it in a kernel that writes `written`.
    pub(crate) fn state(&self, cells: &[Cells], written: &[usize]) -> State {
        let size = COLUMNS.min(self.store.elements());
        let fate = |buffer: usize| {
            let overlaps = |written: &&usize| cells[buffer].overlaps(&cells[**written]);
            let mut found = written.iter().filter(overlaps);
            match (found.next(), found.next()) {
                (None, _) => Fate::Kept,
                (Some(&own), None)
                    if cells[buffer].is_same(&cells[own])
                        && self.store.buffers().eq(std::iter::once(own)) =>
                {
                    Fate::Replaced
                }
                (Some(_), _) => Fate::Written,
            }
        };
        let values = self.nodes.iter().map(|node| match node {
            Compiled::Anchor { .. } => Vec::new(),
            Compiled::Scalar(value) => vec![*value; size],
            Compiled::Read { .. } | Compiled::Unary(..) | Compiled::Binary(..) => vec![0.0; size],
        });
        let fates = self.nodes.iter().map(|node| match node {
            Compiled::Read { walk, .. } => {
                let mut buffers = walk.buffers();
                match (buffers.next(), buffers.next()) {
                    (Some(buffer), None) => fate(buffer),
                    (_, _) => Fate::Written,
                }
            }
            Compiled::Anchor { .. }
            | Compiled::Scalar(_)
            | Compiled::Unary(..)
            | Compiled::Binary(..) => Fate::Kept,
        });
        State {
            values: values.collect(),
            borrowed: vec![None; self.nodes.len()],
            known: vec![0; self.nodes.len()],
            fates: fates.collect(),
            open: None,
            index: self.store.index(0, 0, 0),
            walked: self.store.index(0, 0, 0),
        }
    }

    /// Whether a row of a plane lies within the result.
    pub(crate) fn holds(&self, state: &mut State, place: Place) -> bool {
        let index = &mut state.index;
        self.store
            .set_index(index, place.batch, place.plane, place.row);
        self.store.set_column(index, place.column);
        self.store.find(index).is_some()
    }

    /// Computes and stores one row. `anchor` gives the anchor's elements of a plane, those of the
    /// place's columns.
    pub(crate) fn row<'a>(
        &self,
        state: &mut State,
        cells: &[Cells],
        place: Place,
        anchor: impl Fn(usize) -> &'a [f32],
    ) {
        let State {
            values,
            borrowed,
            known,
            fates,
            open,
            index,
            walked,
        } = state;
        self.store
            .set_index(index, place.batch, place.plane, place.row);
        self.store.set_column(index, place.column);
        // Tiles of a transform reach beyond the border.
        let Some(stored) = self.store.find(index) else {
            return;
        };
        let count = place.count * place.rows;
        let last = self.nodes.len() - 1;
        for (number, node) in self.nodes.iter().enumerate() {
            let depends = &self.depends[number];
            if known[number] >= count && depends.iter().all(|&axis| walked[axis] == index[axis]) {
                continue;
            }
            let (before, rest) = values.split_at_mut(number);
            let out = &mut rest[0];
            let operand = |operand: usize| match (&self.nodes[operand], borrowed[operand]) {
                (Compiled::Anchor { plane }, _) => &anchor(*plane)[..count],
                (_, Some(run)) => cells[run.buffer].run(run.at, count).unwrap_or_default(),
                (_, None) => &before[operand][..count],
            };
            match node {
                Compiled::Anchor { .. } | Compiled::Scalar(_) => {}
                Compiled::Read { walk, pitch } => {
                    let own = self.in_place(walk, *pitch, cells, index, place);
                    let own = own.filter(|run| match fates[number] {
                        Fate::Kept => true,
                        // Results are stored after their operands were used.
                        Fate::Replaced => {
                            number < last && run.at == stored.at && *pitch == self.pitch
                        }
                        Fate::Written => false,
                    });
                    borrowed[number] = own;
                    if own.is_none() {
                        let rows = [place.rows, *pitch];
                        walk.read_rows(cells, index, place.column, rows, &mut out[..count]);
                    }
                    self.store.set_column(index, place.column);
                }
                Compiled::Unary(f, a) => f(&mut out[..count], operand(*a)),
                Compiled::Binary(f, [a, b]) => f(&mut out[..count], operand(*a), operand(*b)),
            }
            known[number] = count;
        }
        walked.copy_from_slice(index);
        let result = match (&self.nodes[last], borrowed[last]) {
            (Compiled::Anchor { plane }, _) => &anchor(*plane)[..count],
            (_, Some(run)) => cells[run.buffer].run(run.at, count).unwrap_or_default(),
            (_, None) => &values[last][..count],
        };
        if let Some(moments) = &self.moments {
            for row in result.chunks_exact(place.count) {
                grow(open, moments, index, row);
            }
        }
        if place.rows > 1 {
            let (rows, pitch) = match stored.stride == 1 && self.pitch == place.count {
                true => (result.chunks_exact(count), count),
                false => (result.chunks_exact(place.count), self.pitch),
            };
            for (row, values) in rows.enumerate() {
                let at = stored.at + row * pitch;
                cells[stored.buffer].store(at, stored.stride.max(1), values);
            }
            return;
        }
        let mut done = 0;
        while done < count {
            self.store.set_column(index, place.column + done);
            let length = self.store.run_length(place.column + done, count - done);
            if let Some(run) = self.store.find(index) {
                cells[run.buffer].store(run.at, run.stride.max(1), &result[done..done + length]);
            }
            done += length;
        }
    }

    /// Where elements lie that can be read there: f32 next to each other.
    fn in_place(
        &self,
        walk: &Walk,
        pitch: usize,
        cells: &[Cells],
        index: &[usize],
        place: Place,
    ) -> Option<Run> {
        let whole = place.rows == 1 || pitch == place.count;
        if !whole || walk.run_length(place.column, place.count) < place.count {
            return None;
        }
        let run = walk.find(index).filter(|run| run.stride == 1)?;
        cells[run.buffer].run(run.at, place.count * place.rows)?;
        Some(run)
    }

    /// Ends the moments that grew over the rows of a block.
    pub(crate) fn end(&self, state: &mut State, output: usize, block: usize) -> Option<Partial> {
        let open = state.open.take()?;
        let count = open.count as f32;
        let means = open
            .shift
            .iter()
            .zip(&open.sum)
            .map(|(shift, sum)| shift + sum / count);
        let mut sums: Vec<f32> = means.collect();
        let squares = open.square.iter().zip(&open.sum);
        sums.extend(squares.map(|(square, sum)| (square - sum * sum / count).max(0.0)));
        Some(Partial {
            output,
            block,
            image: open.image,
            channel: open.channel,
            count: open.count as f64,
            sums,
        })
    }

    /// Whether the rows from here on belong to another image than those before.
    pub(crate) fn changes_image(&self, state: &mut State, place: Place) -> bool {
        let (Some(moments), Some(open)) = (&self.moments, &state.open) else {
            return false;
        };
        let index = &mut state.index;
        self.store
            .set_index(index, place.batch, place.plane, place.row);
        self.store.set_column(index, place.column);
        let found = (moments.image.at(index), moments.channel.at(index));
        found != (open.image as i64, open.channel as i64)
    }

    /// Forgets what was read: other columns come next.
    pub(crate) fn turn(&self, state: &mut State) {
        state.known.fill(0);
    }

    /// Merges the moments of all blocks, in their order, and stores them.
    ///
    /// # Source
    /// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
    pub(crate) fn merge(&self, partials: &[&Partial], cells: &[Cells]) {
        let Some(moments) = &self.moments else { return };
        let cells = cells[moments.buffer];
        let channels = moments.channels;
        let images = cells.elements / 2 / channels.max(1);
        // Count, mean and sum of squared differences.
        let mut merged = vec![[0.0f64; 3]; images * channels];
        for partial in partials {
            let (means, squares) = partial.sums.split_at(partial.sums.len() / 2);
            for (column, (mean, square)) in means.iter().zip(squares).enumerate() {
                let place = partial.image * channels + partial.channel + column;
                let [count, old, sum] = merged[place];
                let total = count + partial.count;
                let distance = f64::from(*mean) - old;
                merged[place] = [
                    total,
                    old + distance * partial.count / total,
                    sum + f64::from(*square) + distance * distance * count * partial.count / total,
                ];
            }
        }
        for (place, [_, mean, square]) in merged.into_iter().enumerate() {
            cells.store(2 * place, 1, &[mean as f32, square as f32]);
        }
    }
}

impl Partial {
    /// The output and the block: partial moments are merged in this order.
    pub(crate) fn order(&self) -> (usize, usize) {
        (self.output, self.block)
    }
}

fn compile(node: &Node, number: usize, views: &OutputViews, regions: &Regions) -> Option<Compiled> {
    Some(match node {
        Node::Anchor(_) => Compiled::Anchor {
            plane: views.planes[number]?,
        },
        Node::Read(_) => Compiled::Read {
            walk: Walk::new(views.reads[number].as_ref()?, regions),
            pitch: 0,
        },
        Node::Scalar(tensor) => Compiled::Scalar(scalar(tensor)),
        Node::Apply(op, operands) => match (function(op.pointwise()?), operands.as_slice()) {
            (Function::Unary(f), [a]) => Compiled::Unary(f, *a),
            (Function::Binary(f), [a, b]) => Compiled::Binary(f, [*a, *b]),
            (_, _) => return None,
        },
    })
}

fn scalar(tensor: &Tensor) -> f32 {
    let mut value = [0.0];
    Cells::of(tensor).load(0, 1, &mut value);
    value[0]
}

fn moments(views: &OutputViews, buffer: Buffer, regions: &Regions) -> Moments {
    let index: &[Index] = match views.store.access.pieces.first() {
        Some(piece) => &piece.index,
        None => &[],
    };
    let affine = |axis: usize| index.get(axis).map(Affine::of).unwrap_or_default();
    Moments {
        buffer: buffer.0 as usize,
        channels: regions.buffer(buffer).extents.shape[1],
        image: affine(0),
        channel: affine(1),
    }
}

/// The axes that nodes depend on: those of their operands, all where the anchor is one.
fn depends(nodes: &[Compiled], store: &Walk) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut own = match node {
            Compiled::Anchor { .. } => store.axes().collect(),
            Compiled::Read { walk, .. } => walk.depends_on(),
            Compiled::Scalar(_) => Vec::new(),
            Compiled::Unary(_, a) => all[*a].clone(),
            Compiled::Binary(_, [a, b]) => [&all[*a][..], &all[*b]].concat(),
        };
        own.sort_unstable();
        own.dedup();
        all.push(own);
    }
    all
}

fn grow(open: &mut Option<Open>, moments: &Moments, index: &[usize], result: &[f32]) {
    let open = open.get_or_insert_with(|| Open {
        image: moments.image.at(index) as usize,
        channel: moments.channel.at(index) as usize,
        count: 0,
        shift: result.to_vec(),
        sum: vec![0.0; result.len()],
        square: vec![0.0; result.len()],
    });
    open.count += 1;
    let (shift, result) = (&open.shift[..], &result[..open.shift.len()]);
    super::math::vectorized(|| {
        let sums = open.sum.iter_mut().zip(open.square.iter_mut());
        for ((sum, square), (x, shift)) in sums.zip(result.iter().zip(shift)) {
            let distance = x - shift;
            *sum += distance;
            *square += distance * distance;
        }
    });
}
