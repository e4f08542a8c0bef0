//! The region IR (level 1): what one kernel computes, and what may fuse into it.
//!
//! Takes a function of known sizes and gives regions that cover it: one anchor (a contraction,
//! attention, a reduction of rows, or nothing), operands read through access maps, a pointwise
//! graph on the anchor's elements while they are at hand, and side reductions of what is stored.
//! Regions are plain data: they print, hash and tell their cost. Nothing here knows a machine, a
//! tile or the order of a loop.

pub(crate) mod access;
mod buffer;
mod cost;
mod direct_statistics;
mod eval;
mod form;
mod index;
mod joined;
mod layout;
mod lower;
mod parse;
mod print;
mod refusal;
mod regions;
mod transposed;
mod verify;

pub use access::{Access, Piece};
pub use buffer::{Buffer, BufferData, Content};
pub use eval::{eval, eval_region};
pub use form::{FormError, Formed, form, rules};
pub use index::{Bound, Index, Part, Scope};
pub(crate) use parse::access::{NUMBER_MAX, extents, numbered, read_access, whole_number};
pub use parse::{RegionsError, parse};
pub use print::Key;
pub(crate) use print::write_access;
pub use refusal::Refusal;
pub use regions::{Anchor, Joined, Node, Output, Region, RegionId, Regions};
pub use verify::{RegionError, verify};
