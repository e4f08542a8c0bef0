//! Views: how a block program reads or stores a buffer, in the coordinates of its tiles.
//!
//! Takes the access map of an operand, or the walk of a store, and the axes of a program, gives
//! an access map over these axes: batch, planes, rows, columns. It reads no data.

use crate::region::access::Step;
use crate::region::{Access, Bound, Buffer, Index, Part, Piece, Regions};

/// An access map whose axes are, in this order, those of batch, planes, rows and columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// What is read, or stored, at each index; outside of all pieces of a store, nothing is.
    pub access: Access,
    /// How many axes each role has.
    pub roles: Roles,
}

/// How many axes of a view are of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Roles {
    /// Independent products: images, heads, groups.
    pub batch: usize,
    /// Products that share a block: halves of paired columns, points of a transform.
    pub planes: usize,
    /// Rows of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
}

/// The axes of a program's result, by role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Axes {
    pub(super) batch: Vec<usize>,
    pub(super) planes: Vec<usize>,
    pub(super) rows: Vec<usize>,
    pub(super) columns: Vec<usize>,
}

impl Axes {
    /// All extents, in the order of a view.
    pub(super) fn shape(&self) -> Vec<usize> {
        [&self.batch[..], &self.planes, &self.rows, &self.columns].concat()
    }

    pub(super) fn roles(&self) -> Roles {
        Roles {
            batch: self.batch.len(),
            planes: self.planes.len(),
            rows: self.rows.len(),
            columns: self.columns.len(),
        }
    }

    /// The index on one axis of these: 0 where there is one element only.
    pub(super) fn index(&self, axis: usize) -> Index {
        Index::along(axis, self.shape()[axis])
    }

    /// The index on every axis, in their order.
    pub(super) fn walk(&self) -> Vec<Index> {
        let axes = self.shape().len();
        (0..axes).map(|axis| self.index(axis)).collect()
    }

    /// The position of the first axis of planes, rows and columns.
    pub(super) fn first_plane(&self) -> usize {
        self.batch.len()
    }

    pub(super) fn first_row(&self) -> usize {
        self.first_plane() + self.planes.len()
    }

    pub(super) fn first_column(&self) -> usize {
        self.first_row() + self.rows.len()
    }
}

impl View {
    /// `access` read at `index` (one for each of its axes) of `axes`, and nowhere else than where
    /// `bounds` hold.
    pub(super) fn read(
        access: &Access,
        axes: &Axes,
        index: Vec<Index>,
        bounds: Vec<Bound>,
    ) -> View {
        let step = Step {
            shape: axes.shape(),
            index,
            bounds,
        };
        View {
            access: access.through(&step),
            roles: axes.roles(),
        }
    }

    /// The walk `store` of a region into `buffer`, from `index` of the region's domain.
    pub(super) fn store(
        (buffer, dtype): (Buffer, crate::DType),
        (store, domain): (&[Index], &[usize]),
        axes: &Axes,
        index: Vec<Index>,
        bounds: Vec<Bound>,
    ) -> View {
        let walk = Access {
            dtype,
            shape: domain.to_vec(),
            pieces: vec![Piece {
                buffer,
                bounds: Vec::new(),
                index: store.to_vec(),
            }],
            fill: None,
        };
        View::read(&walk, axes, index, bounds)
    }

    /// The same view with its last axis of columns as several, where it is walked in equal parts
    /// of which each goes on evenly: what a quotient and a remainder of it took.
    pub(super) fn unfolded(mut self, regions: &Regions) -> View {
        while let Some(part) = self.part(regions) {
            let (&extent, outer) = self.access.shape.split_last().expect("it has a last axis");
            let last = outer.len();
            let shape = [outer, &[extent / part, part]].concat();
            let mut index = Index::identity(&self.access.shape);
            index[last] = Index::axis(last)
                .times(part as i64)
                .add(&Index::axis(last + 1));
            self.access = self.access.through(&Step::whole(&shape, index));
            self.roles.columns += 1;
        }
        self
    }

    /// Elements of a part of the last axis, of columns, that is not all of it.
    fn part(&self, regions: &Regions) -> Option<usize> {
        let (&extent, outer) = self.access.shape.split_last()?;
        // In the place in memory, quotients and remainders may have joined again.
        let place = |piece: &Piece| {
            let walk = piece
                .index
                .iter()
                .zip(regions.buffer(piece.buffer).strides());
            walk.fold(Index::constant(0), |sum, (index, stride)| {
                sum.add(&index.clone().times(stride as i64))
            })
        };
        let pieces = self.access.pieces.iter();
        let parts = pieces.filter_map(|piece| part(&place(piece), outer.len()));
        let fits = |part: &usize| *part > 1 && *part < extent && extent % part == 0;
        parts.filter(fits).min().filter(|_| self.roles.columns > 0)
    }

    /// The extents of the axes of one role.
    pub fn batch(&self) -> &[usize] {
        &self.access.shape[..self.roles.batch]
    }

    /// The extents of the planes' axes.
    pub fn planes(&self) -> &[usize] {
        &self.access.shape[self.roles.batch..][..self.roles.planes]
    }

    /// The extents of the rows' axes.
    pub fn rows(&self) -> &[usize] {
        &self.access.shape[self.roles.batch + self.roles.planes..][..self.roles.rows]
    }

    /// The extents of the columns' axes.
    pub fn columns(&self) -> &[usize] {
        let first = self.access.shape.len() - self.roles.columns;
        &self.access.shape[first..]
    }
}

/// The least number by which an axis is divided in an index.
fn part(index: &Index, axis: usize) -> Option<usize> {
    let (_, parts) = index.parts();
    let divisors = parts.filter_map(|(part, _)| match part {
        Part::Axis(_) => None,
        Part::Div(inner, d) | Part::Mod(inner, d) if inner.as_axis() == Some(axis) => {
            usize::try_from(d).ok()
        }
        Part::Div(inner, _) | Part::Mod(inner, _) => self::part(inner, axis),
    });
    divisors.min()
}
