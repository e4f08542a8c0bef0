//! How the learning rate and the decay of the moving average change over a training.
//!
//! Takes the number of an update, returns the rate and the decay of that update.

use std::f64::consts::PI;

/// The learning rate over a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The rate after the warm-up.
    pub lr: f64,
    /// How it falls after the warm-up.
    pub fall: Fall,
    /// Updates during which it rises.
    pub warmup: u64,
    /// All updates of the training.
    pub steps: u64,
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fall {
    /// Not at all.
    Constant,
    /// Along a line that would reach 0 one update after the last.
    Linear,
    /// Along half a cosine to the same end.
    Cosine,
}

impl Rate {
    /// The rate of an update, counted from 0. The first update of a warm-up has its share already.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        let left = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / left).min(1.0);
        match self.fall {
            Fall::Constant => self.lr,
            Fall::Linear => self.lr * (1.0 - done),
            Fall::Cosine => self.lr * 0.5 * (1.0 + (PI * done).cos()),
        }
    }
}

/// The decay of the moving average over a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    /// The share that stays.
    pub decay: f64,
    /// Whether early updates keep less.
    pub warmup: bool,
}

impl Decay {
    /// The decay of an update after `updated` others: with a warm-up at most `(1 + n)/(10 + n)`.
    ///
    /// # Source
    /// diffusers `EMAModel.get_decay`; spec 3.5.
    pub fn at(&self, updated: u64) -> f64 {
        let n = updated as f64;
        match self.warmup {
            true => self.decay.min((1.0 + n) / (10.0 + n)),
            false => self.decay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let rate = |fall| Rate {
            lr: 2.0,
            fall,
            warmup: 2,
            steps: 6,
        };
        let all = |fall| [0, 1, 2, 4, 6, 9].map(|step| rate(fall).at(step));
        assert_eq!(all(Fall::Constant), [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(all(Fall::Linear), [1.0, 2.0, 2.0, 1.0, 0.0, 0.0]);
        let cosine = all(Fall::Cosine);
        assert!((cosine[3] - 1.0).abs() < 1e-15 && cosine[4].abs() < 1e-15);
    }

    #[test]
    fn the_average_forgets_its_beginning() {
        let decay = Decay {
            decay: 0.5,
            warmup: true,
        };
        assert_eq!([0, 8, 90].map(|n| decay.at(n)), [0.1, 0.5, 0.5]);
    }
}
