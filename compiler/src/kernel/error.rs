//! What is wrong with a kernel that breaks a rule.
//!
//! Takes the place and what was found there, gives the error; the rules are numbered in the card of
//! [`crate::kernel`].

use thiserror::Error;

use crate::kernel::Kernel;

/// A rule that a kernel breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{rule}: {kernel}, {place:?}: found {found}, wanted {wanted}")]
pub struct KernelError {
    /// The rule's number.
    pub rule: &'static str,
    /// The kernel.
    pub kernel: String,
    /// The text of the statement, of the memory, or of what is declared.
    pub place: String,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: &'static str,
}

/// The error of a kernel at a place.
pub(super) fn error(
    rule: &'static str,
    kernel: &Kernel,
    place: impl ToString,
    found: impl ToString,
    wanted: &'static str,
) -> KernelError {
    KernelError {
        rule,
        kernel: kernel.name.clone(),
        place: place.to_string(),
        found: found.to_string(),
        wanted,
    }
}
