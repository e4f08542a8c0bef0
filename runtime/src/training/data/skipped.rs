//! Samples that cannot be used: who they are, why, and how many are too many.
//!
//! Takes what went wrong with a sample, returns an error once more were skipped than a good data
//! set has. What it remembers spares a second reading and never decides what is drawn.

use std::collections::BTreeMap;

use super::error::{DataError, Skipped};

/// So many samples may be skipped of any data set that has more.
const ALWAYS: usize = 10;

/// In large data sets, one sample in this number may be skipped.
const ONE_IN: usize = 100;

/// The samples that were skipped.
#[derive(Debug)]
pub(super) struct Ledger {
    /// All samples.
    samples: usize,
    skipped: BTreeMap<u32, Skipped>,
    /// Those that nobody was told of yet.
    news: Vec<Skipped>,
}

impl Ledger {
    /// A ledger of a data set of this number of samples.
    pub(super) fn new(samples: usize) -> Ledger {
        Ledger {
            samples,
            skipped: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Whether a sample was skipped before.
    pub(super) fn has(&self, sample: u32) -> bool {
        self.skipped.contains_key(&sample)
    }

    /// Skips a sample.
    ///
    /// # Errors
    /// When that is one too many: more than 10 and 1 % of all samples, or all of them.
    pub(super) fn skip(
        &mut self,
        sample: u32,
        name: &str,
        reason: String,
    ) -> Result<(), DataError> {
        let skipped = Skipped {
            name: name.to_owned(),
            reason,
        };
        self.news.push(skipped.clone());
        self.skipped.insert(sample, skipped);
        match self.skipped.len() <= self.limit() {
            true => Ok(()),
            false => Err(self.too_many()),
        }
    }

    /// The error that names them.
    pub(super) fn too_many(&self) -> DataError {
        DataError::TooManySkipped {
            skipped: self.skipped.values().cloned().collect(),
            samples: self.samples,
            limit: self.limit(),
        }
    }

    /// The samples that were skipped since this was asked last.
    pub(super) fn news(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.news)
    }

    /// The most samples that may be skipped.
    fn limit(&self) -> usize {
        let share = (self.samples / ONE_IN).max(ALWAYS);
        share.min(self.samples.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_skipped_as_a_good_data_set_has() {
        for (samples, wanted) in [(1, 0), (4, 3), (50, 10), (5000, 50)] {
            let mut ledger = Ledger::new(samples);
            let mut skip = |sample| ledger.skip(sample, "a.png", "it is cut".to_owned());
            let fine = (0..wanted).all(|sample| skip(sample).is_ok());
            assert!(fine, "{wanted} of {samples}");
            let error = skip(wanted).expect_err("one too many").to_string();
            let wanted = format!("{} of {samples} samples cannot be used", wanted + 1);
            assert!(error.starts_with(&wanted), "{error}");
        }
    }
}
