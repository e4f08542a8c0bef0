//! Quads: four neighbours that one access reads or stores.
//!
//! Takes a view and one of its axes, tells whether every aligned group of four indices on it
//! lies in four neighbouring elements, in one piece, beginning at a multiple of four; the same for
//! groups of another size. Nothing is read here.

use compiler::region::{Bound, Index, Output, Part, Piece, Region, Regions, Scope};
use compiler::tile::{OutputViews, View};

use crate::gpu::buffers::head;

/// Where a linear index on some axes of a view steps: along its last axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Along {
    /// Rows of a tile.
    Rows,
    /// Columns of a tile.
    Columns,
}

/// The last axis of a role.
fn last_axis(view: &View, along: Along) -> Option<usize> {
    let columns = view.access.shape.len() - view.roles.columns;
    match along {
        Along::Rows => (view.roles.rows > 0).then(|| columns - 1),
        Along::Columns => (view.roles.columns > 0).then(|| view.access.shape.len() - 1),
    }
}

/// The place of a piece's elements in the window of its buffer, as one number.
pub(crate) fn address(piece: &Piece, regions: &Regions) -> Index {
    let strides = regions.buffer(piece.buffer).strides();
    let terms = piece.index.iter().zip(strides);
    let first = Index::constant(head(regions, piece.buffer) as i64);
    // Summed as an index, in which quotients and remainders join again.
    terms.fold(first, |sum, (index, stride)| {
        sum.add(&index.clone().times(stride as i64))
    })
}

/// Whether all pieces of a view show aligned quads along an axis.
pub(crate) fn shows(view: &View, along: Along, regions: &Regions) -> bool {
    shows_groups(view, along, regions, 4)
}

/// Whether all pieces of a view show aligned groups of `count` elements along an axis.
pub(crate) fn shows_groups(view: &View, along: Along, regions: &Regions, count: usize) -> bool {
    let Some(axis) = last_axis(view, along) else {
        return false;
    };
    let shape = &view.access.shape;
    if !shape[axis].is_multiple_of(count) {
        return false;
    }
    view.access.pieces.iter().all(|piece| {
        let split = Split::new(shape, axis, count);
        let steps = split.of(&address(piece, regions));
        let unit = |index: &Index| split.is_aligned(index);
        unit(&steps)
            && split.advances(&steps)
            && piece.bounds.iter().all(|Bound { index, start, end }| {
                let index = split.of(index);
                !split.advances(&index)
                    || (unit(&index)
                        && start.rem_euclid(count as i64) == 0
                        && end.rem_euclid(count as i64) == 0)
            })
    })
}

/// An axis as groups and places in them: the place is one more axis, the last.
struct Split {
    axes: Vec<Index>,
    extents: Vec<usize>,
    /// Elements of a group.
    count: i64,
}

impl Split {
    fn new(shape: &[usize], axis: usize, size: usize) -> Split {
        let count = size as i64;
        let mut axes: Vec<Index> = (0..shape.len()).map(Index::axis).collect();
        axes[axis] = Index::axis(axis)
            .times(count)
            .add(&Index::axis(shape.len()));
        let mut extents = [shape, &[size]].concat();
        extents[axis] /= size;
        Split {
            axes,
            extents,
            count,
        }
    }

    fn of(&self, index: &Index) -> Index {
        let scope = Scope::of(&self.extents);
        index.substitute(&self.axes, scope)
    }

    fn place(&self) -> usize {
        self.extents.len() - 1
    }

    fn advances(&self, index: &Index) -> bool {
        index.uses(self.place())
    }

    /// Whether the place counts once, and all else is a multiple of the group.
    fn is_aligned(&self, index: &Index) -> bool {
        let (constant, mut parts) = index.parts();
        constant % self.count == 0
            && parts.all(|(part, coefficient)| match part {
                Part::Axis(axis) if axis == self.place() => coefficient == 1,
                Part::Axis(_) => coefficient % self.count == 0,
                Part::Div(inner, _) | Part::Mod(inner, _) => {
                    coefficient % self.count == 0 && !inner.uses(self.place())
                }
            })
    }
}

/// Whether an output's epilogue computes four columns at a time: it stores, and reads from
/// buffers of 16 bits, aligned quads.
pub(crate) fn is_in_quads(
    region: &Region,
    output: &Output,
    views: &OutputViews,
    regions: &Regions,
) -> bool {
    let floats = regions.node_types(region, output);
    views.first_column.is_multiple_of(4)
        && views.columns.is_multiple_of(4)
        && floats.iter().all(|dtype| dtype.is_float())
        && shows(&views.store, Along::Columns, regions)
}
