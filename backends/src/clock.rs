//! Time: a clock that callers bring, and what it measured.
//!
//! Holds plain types that every backend shares. It reads no clock.

use compiler::region::RegionId;

/// A clock: seconds since a moment that does not change. Rooms below the command have none of
/// their own.
pub type Clock<'a> = &'a (dyn Fn() -> f64 + Sync);

/// The time that one region took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionTime {
    /// The region.
    pub region: RegionId,
    /// From the region before to this one; the first takes what fetching inputs took, so that all
    /// of them add up to the run.
    pub seconds: f64,
}
