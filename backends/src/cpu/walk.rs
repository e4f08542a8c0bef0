//! Walks: views compiled to fast address arithmetic, read in runs of neighbouring elements.
//!
//! Takes a view and the strides of its buffers, gives for an index of the view's axes the buffer
//! and the place where a run begins. Runs go along the last axis; where a piece ends or an
//! address jumps, a run ends.

use compiler::region::{Access, Bound, Index, Part, Regions};
use compiler::tile::{Roles, View};

use super::arena::Cells;

/// An integer for every index: linear terms, and divisions and remainders of such.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Affine {
    constant: i64,
    linear: Vec<(usize, i64)>,
    nested: Vec<Nested>,
}

#[derive(Debug, Clone, PartialEq)]
struct Nested {
    inner: Affine,
    divisor: i64,
    remainder: bool,
    coefficient: i64,
}

impl Affine {
    fn add(&mut self, index: &Index, factor: i64) {
        let (constant, parts) = index.parts();
        self.constant += constant * factor;
        for (part, coefficient) in parts {
            let coefficient = coefficient * factor;
            let mut nested = |inner: &Index, divisor: i64, remainder: bool| {
                self.nested.push(Nested {
                    inner: Affine::of(inner),
                    divisor,
                    remainder,
                    coefficient,
                });
            };
            match part {
                Part::Div(inner, divisor) => nested(inner, divisor, false),
                Part::Mod(inner, divisor) => nested(inner, divisor, true),
                Part::Axis(axis) => match self.linear.iter_mut().find(|(own, _)| *own == axis) {
                    Some((_, sum)) => *sum += coefficient,
                    None => self.linear.push((axis, coefficient)),
                },
            }
        }
    }

    pub(crate) fn of(index: &Index) -> Affine {
        let mut affine = Affine::default();
        affine.add(index, 1);
        affine
    }

    #[inline]
    pub(crate) fn at(&self, index: &[usize]) -> i64 {
        let mut sum = self.constant;
        for &(axis, coefficient) in &self.linear {
            sum += index[axis] as i64 * coefficient;
        }
        for nested in &self.nested {
            let inner = nested.inner.at(index);
            let value = match nested.remainder {
                false => inner.div_euclid(nested.divisor),
                true => inner.rem_euclid(nested.divisor),
            };
            sum += value * nested.coefficient;
        }
        sum
    }

    pub(crate) fn uses(&self, axis: usize) -> bool {
        let linear = self.linear.iter().any(|&(own, c)| own == axis && c != 0);
        linear || self.nested.iter().any(|nested| nested.inner.uses(axis))
    }

    fn uses_nested(&self, axis: usize) -> bool {
        self.nested.iter().any(|nested| nested.inner.uses(axis))
    }

    /// The step between neighbours on `axis`, and the places where it is another one. There is no
    /// step where it depends on other axes or is negative.
    fn runs(&self, axis: usize, extent: usize) -> (Option<usize>, Vec<usize>) {
        let own = |nested: &&Nested| nested.inner.uses(axis);
        let nested: Vec<Nested> = self.nested.iter().filter(own).cloned().collect();
        if nested.is_empty() {
            return (usize::try_from(self.coefficient(axis)).ok(), Vec::new());
        }
        if nested.iter().any(|nested| nested.inner.is_mixed(axis)) {
            return (None, Vec::new());
        }
        let along = Affine {
            constant: 0,
            linear: vec![(axis, self.coefficient(axis))],
            nested,
        };
        let mut index = vec![0; axis + 1];
        let mut at = |place| {
            index[axis] = place;
            along.at(&index)
        };
        let steps: Vec<i64> = (1..extent).map(|place| at(place) - at(place - 1)).collect();
        let step = steps.first().copied().unwrap_or(0);
        let turns = steps.iter().enumerate().filter(|(_, own)| **own != step);
        let turns = turns.map(|(place, _)| place + 1).collect();
        (usize::try_from(step).ok(), turns)
    }

    /// Whether it depends on `axis` together with others, or by more than equal steps.
    fn is_mixed(&self, axis: usize) -> bool {
        let others = |&(own, c): &(usize, i64)| own != axis && c != 0;
        let mixed = !self.nested.is_empty() || self.linear.iter().any(others);
        self.uses(axis) && mixed
    }

    fn coefficient(&self, axis: usize) -> i64 {
        let mut linear = self.linear.iter();
        linear.find(|(own, _)| *own == axis).map_or(0, |&(_, c)| c)
    }
}

#[derive(Debug, Clone)]
struct Piece {
    /// The buffer's number.
    buffer: usize,
    address: Affine,
    bounds: Vec<(Affine, i64, i64)>,
    /// Elements between neighbours on the last axis; `None` where that is not one number.
    stride: Option<usize>,
    /// Places on the last axis that are not `stride` behind their neighbour.
    turns: Vec<usize>,
    /// Axes of the view.
    axes: usize,
}

/// A view as a processor walks it.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pieces: Vec<Piece>,
    /// What is read outside of all pieces.
    fill: f32,
    shape: Vec<usize>,
    pub(crate) roles: Roles,
    /// Where runs end on the last axis: between two cuts no piece begins or ends.
    cuts: Vec<usize>,
    /// The same for the last axis of rows, where it goes along memory, see [`Walk::side_by_side`].
    row_cuts: Option<Vec<usize>>,
}

/// Where a run lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The buffer's number.
    pub(crate) buffer: usize,
    /// Its first element.
    pub(crate) at: usize,
    /// Elements between neighbours.
    pub(crate) stride: usize,
}

/// How addresses change from row to row: by `step`, except at rows whose number is a multiple of
/// `within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pitch {
    pub(crate) step: usize,
    pub(crate) within: usize,
}

/// How the taps of a kernel lie in memory, next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TapOrder {
    /// The number of each tap, as they follow one another.
    pub(crate) order: Vec<usize>,
    /// How far the first of them lies before that of number 0.
    pub(crate) back: usize,
    /// Elements between the taps of neighbouring channels.
    pub(crate) channel_step: usize,
}

impl Walk {
    /// The walk of a view over buffers of `regions`.
    pub(crate) fn new(view: &View, regions: &Regions) -> Walk {
        let Access {
            shape,
            pieces,
            fill,
            ..
        } = &view.access;
        let last = shape.len().checked_sub(1);
        let compiled: Vec<Piece> = pieces
            .iter()
            .map(|piece| {
                let strides = regions.buffer(piece.buffer).strides();
                // Summed as an index, in which quotients and remainders join again.
                let terms = piece.index.iter().zip(strides);
                let address = terms.fold(Index::constant(0), |sum, (index, stride)| {
                    sum.add(&index.clone().times(stride as i64))
                });
                let address = Affine::of(&address);
                let bounds = piece.bounds.iter();
                let bounds =
                    bounds.map(|Bound { index, start, end }| (Affine::of(index), *start, *end));
                let (stride, turns) = match last {
                    Some(last) => address.runs(last, shape[last]),
                    None => (Some(0), Vec::new()),
                };
                Piece {
                    buffer: piece.buffer.0 as usize,
                    bounds: bounds.collect(),
                    stride,
                    turns,
                    address,
                    axes: shape.len(),
                }
            })
            .collect();
        let fill = fill.as_ref().map_or(0.0, |fill| {
            let mut value = [0.0];
            Cells::of(fill).load(0, 1, &mut value);
            value[0]
        });
        let first_column = shape.len() - view.roles.columns;
        Walk {
            cuts: last.map_or(Vec::new(), |last| cuts(&compiled, last, shape[last])),
            row_cuts: row_cuts(&compiled, view.roles, first_column, shape),
            pieces: compiled,
            fill,
            shape: shape.clone(),
            roles: view.roles,
        }
    }

    /// The number of the first axis of rows.
    fn first_row(&self) -> usize {
        self.roles.batch + self.roles.planes
    }

    fn first_column(&self) -> usize {
        self.shape.len() - self.roles.columns
    }

    /// The extents of one role's axes.
    pub(crate) fn batch(&self) -> &[usize] {
        &self.shape[..self.roles.batch]
    }

    pub(crate) fn planes(&self) -> &[usize] {
        &self.shape[self.roles.batch..self.first_row()]
    }

    pub(crate) fn rows(&self) -> &[usize] {
        &self.shape[self.first_row()..self.first_column()]
    }

    pub(crate) fn columns(&self) -> &[usize] {
        &self.shape[self.first_column()..]
    }

    /// The number of its elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The buffers that it reads, by number.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().map(|piece| piece.buffer)
    }

    /// What is read where no piece is.
    pub(crate) fn fill(&self) -> f32 {
        self.fill
    }

    /// An index at the start of batch `batch`, plane `plane` and row `row`.
    pub(crate) fn index(&self, batch: usize, plane: usize, row: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        self.set_index(&mut index, batch, plane, row);
        index
    }

    /// Moves an index there.
    pub(crate) fn set_index(&self, index: &mut [usize], batch: usize, plane: usize, row: usize) {
        self.set(index, 0, self.roles.batch, batch);
        self.set(index, self.roles.batch, self.first_row(), plane);
        self.set(index, self.first_row(), self.first_column(), row);
    }

    /// The number of axes.
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The axes that are no columns.
    pub(crate) fn axes(&self) -> std::ops::Range<usize> {
        0..self.first_column()
    }

    /// Moves an index to another plane.
    pub(crate) fn set_plane(&self, index: &mut [usize], plane: usize) {
        self.set(index, self.roles.batch, self.first_row(), plane);
    }

    /// Moves an index to another column.
    pub(crate) fn set_column(&self, index: &mut [usize], column: usize) {
        self.set(index, self.first_column(), self.shape.len(), column);
    }

    #[inline]
    fn set(&self, index: &mut [usize], start: usize, end: usize, mut flat: usize) {
        for axis in (start..end).rev() {
            if axis == start {
                index[axis] = flat;
            } else {
                index[axis] = flat % self.shape[axis];
                flat /= self.shape[axis];
            }
        }
    }

    /// The longest run that begins at `column` of the columns, taken as one, and is no longer than
    /// `most`: in it every row has one piece, or none.
    pub(crate) fn run_length(&self, column: usize, most: usize) -> usize {
        let extent = match self.roles.columns {
            0 => 1,
            _ => self.shape[self.shape.len() - 1],
        };
        let inner = column % extent.max(1);
        let cut = self.cuts.partition_point(|&cut| cut <= inner);
        let end = self.cuts.get(cut).copied().unwrap_or(extent);
        (end - inner).min(most)
    }

    /// Where the run at `index` begins; `None` outside of all pieces.
    #[inline]
    pub(crate) fn find(&self, index: &[usize]) -> Option<Run> {
        let holds = |piece: &&Piece| {
            let mut bounds = piece.bounds.iter();
            bounds.all(|(affine, start, end)| {
                let value = affine.at(index);
                *start <= value && value < *end
            })
        };
        let piece = self.pieces.iter().find(holds)?;
        Some(Run {
            buffer: piece.buffer,
            at: piece.address.at(index) as usize,
            stride: piece.stride.unwrap_or(0),
        })
    }

    /// Whether neighbouring rows lie side by side: then [`Walk::row_length`] tells how many, and
    /// [`Walk::stretch`] where they go.
    pub(crate) fn side_by_side(&self) -> bool {
        self.row_cuts.is_some()
    }

    /// Rows from `row` on, at most `most`, that have one piece, or none, and lie side by side.
    pub(crate) fn row_length(&self, row: usize, most: usize) -> usize {
        let extent = self.shape[self.first_column() - 1];
        let inner = row % extent.max(1);
        let cuts = self.row_cuts.as_deref().unwrap_or_default();
        let cut = cuts.partition_point(|&cut| cut <= inner);
        let end = cuts.get(cut).copied().unwrap_or(extent);
        (end - inner).min(most)
    }

    /// The run that begins at `index` and how far it goes along the last axis, at most `most` and
    /// to the axis' end; or no run, and for how long there is none. Bounds go by equal steps.
    pub(crate) fn stretch(&self, index: &[usize], most: usize) -> (Option<Run>, usize) {
        let last = self.shape.len() - 1;
        let most = most.min(self.shape[last] - index[last]);
        let mut none = most;
        for piece in &self.pieces {
            let (mut from, mut to) = (0, most as i64);
            for (bound, start, end) in &piece.bounds {
                let (value, coefficient) = (bound.at(index), bound.coefficient(last));
                if coefficient == 0 {
                    if value < *start || value >= *end {
                        to = 0;
                    }
                    continue;
                }
                let ends = [*start, *end].map(|border| steps_to(border - value, coefficient));
                from = ends[0].min(ends[1]).max(from);
                to = ends[0].max(ends[1]).min(to);
            }
            match from {
                _ if from >= to => {}
                0 => {
                    let run = Run {
                        buffer: piece.buffer,
                        at: piece.address.at(index) as usize,
                        stride: piece.stride.unwrap_or(0),
                    };
                    return (Some(run), to as usize);
                }
                _ => none = none.min(from as usize),
            }
        }
        (None, none)
    }

    /// Whether all rows follow one another in memory, each right behind the one before.
    pub(crate) fn is_flat(&self) -> bool {
        let [piece] = self.pieces.as_slice() else {
            return false;
        };
        let mut reach: usize = self.columns().iter().product();
        let rows = (self.first_row()..self.first_column()).rev().all(|axis| {
            let flat = piece.address.coefficient(axis) == reach as i64;
            reach *= self.shape[axis];
            flat || self.shape[axis] == 1
        });
        let plain = piece.bounds.is_empty() && piece.address.nested.is_empty();
        rows && plain && piece.stride == Some(1) && self.roles.columns == 1
    }

    /// The last axis of planes.
    fn last_plane(&self) -> Option<usize> {
        (self.roles.planes > 0).then(|| self.first_row() - 1)
    }

    /// The axes along which rows are computed as one: of rows, or the last of planes.
    fn joined(&self) -> std::ops::Range<usize> {
        match self.last_plane() {
            Some(axis) => axis..axis + 1,
            None => self.first_row()..self.first_column(),
        }
    }

    /// A value that depends only on the axes for which `uses` holds changes at no other rows than
    /// multiples of this number.
    pub(crate) fn alike(&self, uses: impl Fn(usize) -> bool) -> usize {
        let axes = self.joined();
        match axes.clone().rev().find(|&axis| uses(axis)) {
            Some(axis) => self.shape[axis + 1..axes.end].iter().product(),
            None => usize::MAX,
        }
    }

    /// How addresses change from row to row, or along the last axis of planes where there are planes.
    /// Nothing is read outside of the bounds that `store` has.
    pub(crate) fn pitch(&self, store: &Walk) -> Pitch {
        let depends = self.depends_on();
        let alike = Pitch {
            step: 0,
            within: self.alike(|axis| depends.contains(&axis)),
        };
        let ([piece], [stored]) = (self.pieces.as_slice(), store.pieces.as_slice()) else {
            return alike;
        };
        let is_known = |bound| self.roles.planes > 0 && stored.bounds.contains(bound);
        let equal = piece.stride.is_some() && piece.turns.is_empty() && self.roles.columns == 1;
        if !equal || !piece.bounds.iter().all(is_known) {
            return alike;
        }
        let mut step = None;
        let mut within = 1;
        for axis in self.joined().rev().filter(|&axis| self.shape[axis] > 1) {
            let coefficient = usize::try_from(piece.address.coefficient(axis)).ok();
            let coefficient = coefficient.filter(|_| !piece.address.uses_nested(axis));
            let first = *step.get_or_insert(coefficient.unwrap_or(0));
            if coefficient != Some(first * within) {
                return Pitch {
                    step: first,
                    within,
                };
            }
            within *= self.shape[axis];
        }
        Pitch {
            step: step.unwrap_or(0),
            within: usize::MAX,
        }
    }

    /// The axes, columns apart, that what is read depends on.
    pub(crate) fn depends_on(&self) -> Vec<usize> {
        let uses = |axis: &usize| {
            self.pieces.iter().any(|piece| {
                let bounds = piece.bounds.iter().any(|(bound, ..)| bound.uses(*axis));
                bounds || piece.address.uses(*axis)
            })
        };
        (0..self.first_column()).filter(uses).collect()
    }

    /// How the taps of a kernel lie: the axes of planes, or if there are none those of columns but
    /// the last, which is that of channels. `None` unless they are all that is next to each other
    /// in one piece, and channels go by equal steps.
    pub(crate) fn taps(&self) -> Option<TapOrder> {
        let [piece] = self.pieces.as_slice() else {
            return None;
        };
        let last = self.shape.len().checked_sub(1)?;
        let axes = match self.roles.planes {
            0 => self.first_column()..last,
            _ if self.roles.columns == 1 => self.roles.batch..self.first_row(),
            _ => return None,
        };
        if !piece.bounds.is_empty() || !piece.address.nested.is_empty() {
            return None;
        }
        let mut steps = Vec::new();
        let mut tap = 1;
        for axis in axes.rev().filter(|&axis| self.shape[axis] > 1) {
            steps.push((piece.address.coefficient(axis), self.shape[axis], tap));
            tap *= self.shape[axis];
        }
        steps.sort_by_key(|(coefficient, ..)| coefficient.abs());
        let (mut order, mut back) = (vec![0], 0);
        for (coefficient, extent, tap) in steps {
            if coefficient.unsigned_abs() as usize != order.len() {
                return None;
            }
            let reach = order.len();
            for step in 1..extent {
                order.extend_from_within(..reach);
                order[step * reach..]
                    .iter_mut()
                    .for_each(|own| *own += step * tap);
            }
            if coefficient < 0 {
                back += (extent - 1) * reach;
                let turned = order.chunks(reach).rev().flatten().copied().collect();
                order = turned;
            }
        }
        let channel_step = piece.stride?;
        Some(TapOrder {
            order,
            back,
            channel_step,
        })
    }

    /// The elements of rows that follow one another, from the start of the one that `index` names.
    pub(crate) fn load(&self, cells: &[Cells], index: &mut [usize], out: &mut [f32]) {
        self.set_column(index, 0);
        if let Some(run) = self.find(index) {
            cells[run.buffer].load(run.at, 1, out);
        }
    }

    /// The elements from `column` on, of the row that `index` names and those behind it, whose
    /// addresses lie `pitch` apart; the columns of the index are changed.
    pub(crate) fn read_rows(
        &self,
        cells: &[Cells],
        index: &mut [usize],
        column: usize,
        [rows, pitch]: [usize; 2],
        out: &mut [f32],
    ) {
        let columns = out.len() / rows.max(1);
        let (first, others) = out.split_at_mut(columns);
        self.read(cells, index, column, first);
        if pitch == 0 {
            others
                .chunks_exact_mut(columns)
                .for_each(|row| row.copy_from_slice(first));
            return;
        }
        self.set_column(index, column);
        if let Some(run) = self.find(index) {
            for (row, out) in others.chunks_exact_mut(columns).enumerate() {
                cells[run.buffer].load(run.at + (row + 1) * pitch, run.stride, out);
            }
        }
    }

    /// The elements from `column` on, of the row that `index` names; its columns are changed.
    pub(crate) fn read(
        &self,
        cells: &[Cells],
        index: &mut [usize],
        column: usize,
        out: &mut [f32],
    ) {
        let mut done = 0;
        while done < out.len() {
            self.set_column(index, column + done);
            let length = self.run_length(column + done, out.len() - done);
            let part = &mut out[done..done + length];
            match self.find(index) {
                Some(run) => cells[run.buffer].load(run.at, run.stride, part),
                None => part.fill(self.fill),
            }
            done += length;
        }
    }
}

/// The places on an axis where runs end.
fn cuts(pieces: &[Piece], axis: usize, extent: usize) -> Vec<usize> {
    let single = pieces.iter().any(|piece| {
        let last = axis + 1 == piece.axes;
        (last && piece.stride.is_none()) || piece.bounds.iter().any(|(b, ..)| b.is_mixed(axis))
    });
    if single {
        return (1..extent).collect();
    }
    let turns = |piece: &Piece| match axis + 1 == piece.axes {
        true => piece.turns.clone(),
        false => Vec::new(),
    };
    let mut cuts: Vec<usize> = pieces.iter().flat_map(turns).collect();
    for (bound, start, end) in pieces.iter().flat_map(|piece| &piece.bounds) {
        let coefficient = bound.coefficient(axis);
        if coefficient == 0 {
            continue;
        }
        // The first index at which coefficient · i + constant reaches a border, or leaves it.
        for border in [*start, *end] {
            let cut = steps_to(border - bound.constant, coefficient);
            cuts.extend(usize::try_from(cut).ok());
        }
    }
    cuts.retain(|&cut| cut > 0 && cut < extent);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The first `i` with `coefficient · i >= reach`, or the first with `coefficient · i < reach` where
/// the coefficient is negative.
fn steps_to(reach: i64, coefficient: i64) -> i64 {
    match coefficient > 0 {
        true => (reach + coefficient - 1).div_euclid(coefficient),
        false => (-reach).div_euclid(-coefficient) + 1,
    }
}

/// Where runs along the last axis of rows end, if every piece goes along memory there, and by
/// equal steps along the last axis.
fn row_cuts(
    pieces: &[Piece],
    roles: Roles,
    first_column: usize,
    shape: &[usize],
) -> Option<Vec<usize>> {
    if roles.rows == 0 || roles.columns == 0 {
        return None;
    }
    let (row, last) = (first_column - 1, shape.len() - 1);
    let along = pieces.iter().all(|piece| {
        let mut bounds = piece.bounds.iter();
        piece.address.coefficient(row) == 1
            && !piece.address.uses_nested(row)
            && piece.stride.is_some_and(|stride| stride != 1)
            && piece.turns.is_empty()
            && bounds.all(|(bound, ..)| !bound.is_mixed(row) && !bound.uses_nested(last))
    });
    along.then(|| cuts(pieces, row, shape[row]))
}
