//! Scores of attention: what its programs share.
//!
//! Takes the operands of attention, returns their extents, views of them as matrices, and the
//! blocks of queries and keys to choose from. Nothing is chosen here.

use crate::region::{Access, Index, Region};
use crate::target::Target;
use crate::tile::programs::even;
use crate::tile::view::{Axes, View};

/// The extents of scores, and of what they are made of.
pub(super) struct Scores {
    /// Images and heads.
    pub(super) batch: [usize; 2],
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Of queries and keys.
    pub(super) width: usize,
    /// Of values; 0 without any.
    pub(super) result: usize,
}

impl Scores {
    /// Those of queries `[images, heads, queries, width]`, keys, and values where there are some.
    pub(super) fn of(queries: &Access, keys: &Access, values: Option<&Access>) -> Scores {
        let [images, heads, count, width] = [0, 1, 2, 3].map(|axis| queries.shape[axis]);
        Scores {
            batch: [images, heads],
            queries: count,
            keys: keys.shape[2],
            width,
            result: values.map_or(0, |values| values.shape[3]),
        }
    }

    /// Images times heads.
    pub(super) fn heads(&self) -> usize {
        self.batch.iter().product()
    }

    /// Returns an error where there is no score, or each is a sum of nothing.
    pub(super) fn exist(&self) -> Result<(), String> {
        match [self.heads(), self.queries, self.keys, self.width].contains(&0) {
            true => Err("there are no scores".to_owned()),
            false => Ok(()),
        }
    }

    /// The axes of a matrix for each head.
    pub(super) fn axes(&self, rows: usize, columns: usize) -> Axes {
        Axes {
            batch: self.batch.to_vec(),
            rows: vec![rows],
            columns: vec![columns],
            ..Axes::default()
        }
    }

    /// `access` with its last two axes as rows and columns.
    pub(super) fn matrix(&self, access: &Access, rows: usize, columns: usize) -> View {
        view(access, &self.axes(rows, columns), [0, 1, 2, 3])
    }

    /// `access` with its last two axes as columns and rows.
    pub(super) fn transposed(&self, access: &Access, rows: usize, columns: usize) -> View {
        view(access, &self.axes(rows, columns), [0, 1, 3, 2])
    }

    /// Adds the view of the mask, which is operand `number` of the anchor if there is one; returns
    /// its position.
    pub(super) fn mask(
        &self,
        region: &Region,
        number: usize,
        views: &mut Vec<View>,
    ) -> Option<usize> {
        (region.anchor_operands() > number).then(|| {
            views.push(self.matrix(&region.operands[number], self.queries, self.keys));
            views.len() - 1
        })
    }

    /// Blocks of `[queries, keys]`: of at most `most` times a fragment's columns of queries, both
    /// multiples of `unit` where there are as many.
    pub(super) fn blocks(&self, most: &[usize], unit: usize, target: &Target) -> Vec<[usize; 2]> {
        let compute = &target.compute;
        let mut blocks = Vec::new();
        for most in most.iter().map(|count| count * compute.fragment[1]) {
            for &part in compute.blocks.keys {
                blocks.push([
                    even(self.queries, most, unit.min(self.queries)),
                    even(self.keys, part, unit.min(self.keys.max(1))),
                ]);
            }
        }
        blocks
    }
}

/// `access` over `axes`: its axis `a` is axis `order[a]` of these.
fn view(access: &Access, axes: &Axes, order: [usize; 4]) -> View {
    // A mask may stretch along any axis, or lack the first ones.
    let missing = order.len() - access.shape.len();
    let index = access.shape.iter().enumerate();
    let index = index.map(|(axis, &extent)| match extent {
        1 => Index::constant(0),
        _ => axes.index(order[axis + missing]),
    });
    View::read(access, axes, index.collect(), Vec::new())
}
