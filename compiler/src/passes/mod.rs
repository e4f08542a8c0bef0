//! Passes over the graph: each a table of rules, run to a fixpoint by one driver; hoisting, which
//! makes two functions of one; and inlining, which makes one of several.
//!
//! Takes a verified module, returns one that means the same and a list of what was done and why.
//! A pass does not call another, print, or read the environment; the list below is the order.
//! `simplify` is exact: results are equal bit for bit. `raise` finds first-class operators in
//! the spellings of exporters, which round differently.

use std::collections::BTreeMap;

use crate::graph::verify::Verified;

mod driver;
mod editor;
mod hoist;
mod inline;
mod matching;
mod pass;
mod raise;
mod simplify;

pub use driver::{PassError, run};
pub use hoist::{Hoisted, hoist};
pub use inline::{InlineError, inline};
pub use pass::{Pass, Patch};

/// Removes what a graph need not do; exact.
pub const SIMPLIFY: Pass = Pass {
    name: "simplify",
    rules: simplify::RULES,
};

/// Finds first-class operators where they are spelled out.
pub const RAISE: Pass = Pass {
    name: "raise",
    rules: raise::RULES,
};

/// The passes in their order: what is raised leaves something to simplify.
pub const PASSES: [&Pass; 3] = [&SIMPLIFY, &RAISE, &SIMPLIFY];

/// Runs all passes in their order; returns what they did.
///
/// # Errors
/// As [`run`].
pub fn optimize(module: Verified) -> Result<(Verified, Vec<Patch>), PassError> {
    let (mut module, mut patches) = (module, Vec::new());
    for pass in PASSES {
        let (next, done) = run(pass, module, None)?;
        module = next;
        patches.extend(done);
    }
    Ok((module, patches))
}

/// How often each rule was applied.
pub fn counts(patches: &[Patch]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for patch in patches {
        *counts.entry(patch.rule).or_insert(0) += 1;
    }
    counts
}
