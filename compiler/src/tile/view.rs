//! Views: how a block program reads or stores a buffer, in the coordinates of its tiles.
//!
//! Takes the access map of an operand, or the walk of a store, and the axes of a program, gives
//! an access map over these axes: batch, planes, rows, columns. It reads no data.

use crate::region::access::Step;
use crate::region::{Access, Bound, Buffer, Index, Piece};

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
        match self.shape()[axis] {
            1 => Index::constant(0),
            _ => Index::axis(axis),
        }
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
