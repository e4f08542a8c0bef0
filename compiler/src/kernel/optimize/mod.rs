//! Makes kernels do less: a list of passes that keep what a kernel stores.
//!
//! Takes a kernel that keeps the rules and gives one that keeps them and leaves the same bits in
//! the buffers, where it has no fault. A pass is one file; it knows no machine.

mod fold;
mod hoist;
mod lift;
mod range;
mod share;
mod step;
mod sweep;

use crate::kernel::interpret::LIMITS;
use crate::kernel::{Kernel, verify};

/// One pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// The name, for errors and tests.
    pub name: &'static str,
    /// What it does.
    pub run: fn(Kernel) -> Kernel,
}

/// All passes, in order.
pub const PASSES: [Pass; 10] = [
    FOLD, LIFT, SHARE, HOIST, // What was hoisted meets what stands there.
    SHARE, STEP, // What a counter begins with is known.
    FOLD, SHARE, HOIST, SWEEP,
];

const FOLD: Pass = Pass {
    name: "fold",
    run: fold::fold,
};

const SHARE: Pass = Pass {
    name: "share",
    run: share::share,
};

const HOIST: Pass = Pass {
    name: "hoist",
    run: hoist::hoist,
};

const LIFT: Pass = Pass {
    name: "lift",
    run: lift::lift,
};

const STEP: Pass = Pass {
    name: "step",
    run: step::step,
};

const SWEEP: Pass = Pass {
    name: "sweep",
    run: sweep::sweep,
};

/// Runs all passes; values are numbered anew.
///
/// # Panics
/// In debug builds, when a pass breaks a rule: that is a mistake of ours.
pub fn optimize(kernel: Kernel) -> Kernel {
    PASSES.iter().fold(kernel, |kernel, pass| {
        let after = (pass.run)(kernel);
        if cfg!(debug_assertions)
            && let Err(error) = verify(&after, &LIMITS)
        {
            panic!("after {}: {error}\n{after}", pass.name);
        }
        after
    })
}
