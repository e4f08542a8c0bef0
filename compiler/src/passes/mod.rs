//! Passes over the graph: each a table of rules, run to a fixpoint by one driver; hoisting, which
//! makes two functions of one; and inlining, which makes one of several.
//!
//! Takes a verified module, gives one that means the same and a list of what was done and why.
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
mod raise;
mod simplify;

pub use driver::PassError;
pub use hoist::{Hoisted, hoist};
pub use inline::{InlineError, inline};

/// A named table of rules.
#[derive(Debug)]
pub struct Pass {
    /// The name, as in errors and reports.
    pub name: &'static str,
    rules: &'static [editor::Rule],
}

impl Pass {
    /// The names of its rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().map(|rule| rule.name)
    }
}

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

/// One application of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The rule.
    pub rule: &'static str,
    /// The function.
    pub func: String,
    /// Where the value comes from that was replaced.
    pub origin: String,
    /// What was found and what replaces it.
    pub reason: String,
}

/// Runs one pass to its fixpoint, or until it made `patches_max` patches.
///
/// # Errors
/// When a rule makes an ill-typed graph, or rules undo each other: always our fault, named.
pub fn run(
    pass: &Pass,
    module: Verified,
    patches_max: Option<usize>,
) -> Result<(Verified, Vec<Patch>), PassError> {
    driver::run(pass, module, patches_max)
}

/// Runs all passes in their order; gives what they did.
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
