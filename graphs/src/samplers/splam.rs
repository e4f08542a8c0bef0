//! SPLAM: the LCM sampler at γ = 1 (spec 4.8).
//!
//! γ reaches the network as a condition vector, or not at all once it is folded; the steps are
//! LCM's own.

use super::lcm;
use super::options::Sampler;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "splam",
    ..lcm::SAMPLER
};
