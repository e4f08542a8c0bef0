//! What a pass is, and what it reports.

use super::editor::Rule;

/// A named table of rules.
#[derive(Debug)]
pub struct Pass {
    /// The name, as in errors and reports.
    pub name: &'static str,
    pub(super) rules: &'static [Rule],
}

impl Pass {
    /// The names of its rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().map(|rule| rule.name)
    }
}

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
