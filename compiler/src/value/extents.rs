//! The extents of a concrete tensor, and the bounds that every shape keeps to.
//!
//! Takes shapes, returns whether they are sane: files may hold absurd ones, and what arithmetic on
//! a shape costs grows with it.

use super::dim::Dim;
use super::dtype::DType;

/// The concrete extents and element type of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents {
    /// The element type.
    pub dtype: DType,
    /// The extents, outermost first.
    pub shape: Vec<usize>,
}

impl Extents {
    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// No tensor has more elements than this: 4 TiB of f32.
pub const ELEMENTS_MAX: i64 = 1 << 40;

/// No tensor has more axes than this; models use at most seven.
pub const AXES_MAX: usize = 16;

/// No extent has more symbols, divisions and terms than this; models use about ten.
pub const EXTENT_PARTS_MAX: usize = 256;

/// Whether a shape keeps to [`AXES_MAX`] and [`EXTENT_PARTS_MAX`], in its extents and in their
/// product: what an absurd shape would cost grows with the power of its axes.
pub(crate) fn is_bounded(shape: &[Dim]) -> bool {
    let small = |dim: &Dim| dim.size() <= EXTENT_PARTS_MAX;
    let terms = |shape: &[Dim]| {
        let terms = shape.iter().map(|dim| dim.terms().max(1));
        terms.fold(1usize, usize::saturating_mul)
    };
    shape.len() <= AXES_MAX && shape.iter().all(small) && terms(shape) <= EXTENT_PARTS_MAX
}
