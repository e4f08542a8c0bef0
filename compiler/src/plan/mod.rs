//! The plan of memory: which bytes of which slab hold which buffer, and when.
//!
//! Takes buffers with their sizes and lifetimes and the limits of a target, gives each buffer a
//! place: a window that the target can bind whole, within a slab that it can allocate. A buffer
//! that overwrites one that dies takes over its place. The same input gives the same plan. Weights
//! and states have plans of their own ([`weights`], [`states`]) since they outlive a run.
//! It moves no data and knows no machine but by [`Limits`].

use crate::region::Regions;
use crate::target::Limits;

mod assign;
mod lifetimes;
mod overwrite;
mod places;
mod recompute;
mod share;
mod states;

use places::live;

pub use lifetimes::{END, Lifetime, lifetimes, states, weights};
pub use places::{Place, Plan, PlanError, Storage, Window};
pub use recompute::{Recomputation, Recomputed, recompute};
pub use states::{Update, updates};

/// Gives every buffer of `lifetimes` its place; they are ordered by birth, and what they overwrite
/// comes before them.
///
/// Buffers are placed one by one, each into the smallest gap that holds it among those placed that
/// live at the same time: once from the largest to the smallest, once by bytes times how long they
/// live, and once as they are born (a linear scan); the smallest plan is kept. The first order is
/// "greedy by size for offset calculation" of Pisarchyk and Lee 2020 (arXiv 2001.03288).
///
/// # Errors
/// When a buffer is larger than a window can be, or the sum of all sizes than 64 bits hold.
///
/// # Panics
/// When the alignment is 0, `lifetimes` are not in order, or two are of one buffer.
pub fn plan(lifetimes: &[Lifetime], limits: &Limits) -> Result<Plan, PlanError> {
    assert!(limits.alignment > 0, "an alignment is a number of bytes");
    let (mut storages, places) = share::share(lifetimes, limits)?;
    let mut sizes = storages.iter().map(|storage| storage.bytes);
    sizes
        .try_fold(0u64, u64::checked_add)
        .ok_or(PlanError::Sum {
            buffers: lifetimes.len(),
        })?;
    let windows = assign::assign(&mut storages, limits.window_bytes_max());
    let (slabs, windows) = assign::slabs(&windows, &mut storages, limits.buffer_bytes_max);
    Ok(Plan {
        limits: *limits,
        slabs,
        windows,
        lower_bound_bytes: live(&storages, &places).into_iter().max().unwrap_or(0),
        storages,
        places,
    })
}

/// The plan of the inputs of regions and of what they store.
///
/// # Errors
/// When a buffer is larger than what the limits let a kernel bind.
pub fn plan_regions(regions: &Regions, limits: &Limits) -> Result<Plan, PlanError> {
    plan(&lifetimes(regions), limits)
}
