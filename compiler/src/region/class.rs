//! The class of an operator, as lowering asks for it.
//!
//! Takes an operator, gives what its own file says.

pub(super) use crate::ops::Class;
use crate::ops::Op;

/// See [`Op::class`].
pub(super) fn class(op: &Op) -> Class {
    op.class()
}
