//! Regions cut anew for a target whose blocks share nothing but memory: what one region computes
//! may take several kernels, and what two do may take one.
//!
//! Takes regions and a target, gives regions of the same results, of which one tile program each
//! is made, and the original of each. Which cuts pay is decided by the target's numbers alone.

use crate::region::Regions;
use crate::target::Target;

mod origins;
mod split_depth;
mod whole_norms;

pub use origins::Recut;

/// Regions as the kernels of a target compute them.
pub fn recut(regions: &Regions, target: &Target) -> Recut {
    let whole = whole_norms::apply(Recut::none(regions), target);
    split_depth::apply(whole, target)
}
