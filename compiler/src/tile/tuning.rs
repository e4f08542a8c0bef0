//! Measured times of tile programs: what tuning leaves behind.
//!
//! Takes what a backend measured, gives it to who chooses. It is plain data that any machine may
//! read: what was measured elsewhere, or is no candidate any more, changes no choice.

use std::collections::BTreeMap;

use crate::region::Key;
use crate::target::Target;

/// What a measurement holds for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The region's [`Key`] as it prints: operators, attributes, shapes and types.
    pub region: String,
    /// [`Target::name`].
    pub target: String,
    /// The threads of the target.
    pub threads: usize,
}

impl Case {
    /// Regions of this key on this target.
    pub fn new(key: &Key, target: &Target) -> Case {
        Case {
            region: key.to_string(),
            target: target.name.to_owned(),
            threads: target.compute.threads,
        }
    }
}

/// The time that one way to compute a region took.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The program's name.
    pub program: String,
    /// What its candidates differ in.
    pub parameters: [usize; 3],
    /// The time of one run.
    pub seconds: f64,
}

/// Measurements, by what they hold for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// Of each case the ways that were measured.
    pub cases: BTreeMap<Case, Vec<Measurement>>,
}

impl Tuning {
    /// The time that this way took, if it was measured and is a time at all.
    pub(super) fn seconds(
        &self,
        case: &Case,
        program: &str,
        parameters: [usize; 3],
    ) -> Option<f64> {
        let mut measured = self.cases.get(case)?.iter();
        let own = measured.find(|own| own.program == program && own.parameters == parameters)?;
        (own.seconds.is_finite() && own.seconds > 0.0).then_some(own.seconds)
    }
}
