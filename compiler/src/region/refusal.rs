//! Why a fusion was not made, in words for a user.

use crate::region::RegionId;

/// Why a fusion was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that refused.
    pub rule: &'static str,
    /// The region that it looked at.
    pub region: RegionId,
    /// Where that region's value comes from.
    pub origin: String,
    /// What was found.
    pub reason: String,
}
