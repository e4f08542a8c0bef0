//! Rules of formation: what one is, what it answers, and what a user is told of it.

use thiserror::Error;

use super::state::{State, Verdict};
use crate::graph::TensorType;
use crate::region::RegionError;

/// A directional fusion with a name.
pub(super) struct Rule {
    /// The name: that of its file.
    pub(super) name: &'static str,
    /// Fuses something into or with the region in a slot, if it can.
    pub(super) apply: fn(&mut State, usize) -> Verdict,
}

/// Why a function has no regions.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FormError {
    /// A size is not known.
    #[error("a value at {origin:?} has type {ty}, wanted known sizes")]
    Unbound {
        /// Where it comes from.
        origin: String,
        /// Its type.
        ty: TensorType,
    },
    /// Formation broke a rule of regions.
    #[error("after {after}, {source}")]
    Broken {
        /// The name of the rule of formation.
        after: &'static str,
        /// The rule that does not hold.
        source: RegionError,
    },
}
