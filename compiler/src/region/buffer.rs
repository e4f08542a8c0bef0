//! Buffers: tensors that are stored in memory between regions.
//!
//! Takes extents and where elements come from, returns their order in memory. Nothing here knows
//! who reads a buffer.

use std::fmt;

use crate::graph::{Param, Role};
use crate::value::extents::Extents;
use crate::value::tensor::Tensor;

/// A tensor that lies in memory between regions; prints as in the text form, `b7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Buffer(pub u32);

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// Where the elements of a buffer come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A parameter of the function.
    Param(Param),
    /// Always the same.
    Constant(Tensor),
    /// A region stores them.
    Computed,
}

/// All that is known of a buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferData {
    /// The element type and the extents.
    pub extents: Extents,
    /// Where the elements come from.
    pub content: Content,
    /// The axes as they lie in memory, outermost first; those of parameters, constants and
    /// results lie as they are numbered.
    pub order: Vec<usize>,
}

impl BufferData {
    /// A buffer whose axes lie as they are numbered.
    pub fn new(extents: Extents, content: Content) -> BufferData {
        let order = (0..extents.shape.len()).collect();
        BufferData {
            extents,
            content,
            order,
        }
    }

    /// What feeds the buffer, if it is a parameter.
    pub fn role(&self) -> Option<Role> {
        match &self.content {
            Content::Param(param) => Some(param.role),
            Content::Constant(_) | Content::Computed => None,
        }
    }

    /// Whether it keeps what it holds from run to run until a result takes its place.
    pub fn is_state(&self) -> bool {
        self.role() == Some(Role::State)
    }

    /// Whether the elements are the same in every run: those of a weight or a constant.
    pub fn is_fixed(&self) -> bool {
        self.role() == Some(Role::Weight) || matches!(self.content, Content::Constant(_))
    }

    /// Elements in memory between neighbours on each axis of the extents.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![0; self.order.len()];
        let mut stride = 1usize;
        for &axis in self.order.iter().rev() {
            strides[axis] = stride;
            stride = stride.saturating_mul(self.extents.shape[axis].max(1));
        }
        strides
    }

    /// Whether the axes lie as they are numbered.
    pub fn is_row_major(&self) -> bool {
        self.order
            .iter()
            .enumerate()
            .all(|(place, &axis)| place == axis)
    }
}
