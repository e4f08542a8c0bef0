//! Makes kernels do less: a list of passes that keep what a kernel stores.
//!
//! Takes a kernel that keeps the rules and gives one that keeps them and leaves the same bits in
//! the buffers, where it has no fault. A pass is one file; it knows no machine.

mod fold;
mod hoist;
mod lift;
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

macro_rules! passes {
    ($($name:ident),* $(,)?) => {
        &[$(Pass { name: stringify!($name), run: $name::$name }),*]
    };
}

/// All passes, in order: what was hoisted is shared with what is there, and what a counter begins
/// with is known after `step`.
pub const PASSES: &[Pass] = passes![
    fold, lift, share, hoist, share, step, fold, share, hoist, sweep,
];

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
