//! What a training draws for each sample.
//!
//! Takes uniform numbers, returns what a distribution makes of them. It draws nothing itself and
//! knows no method.

use std::collections::BTreeMap;

/// A number that is drawn for each sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Its name, in files of draws and for the method.
    pub name: &'static str,
    /// How it is distributed.
    pub distribution: Distribution,
}

/// How a number is distributed.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// One of these numbers, all equally likely; at least one.
    OneOf(Vec<f64>),
    /// `high` with a probability of `at_high`, else `low + (high − low)·uᵖᵒʷᵉʳ` for a uniform u in
    /// 0..1.
    Power {
        /// The number at u = 0.
        low: f64,
        /// The number that u = 1 would be.
        high: f64,
        /// The exponent; below 1 it favours high numbers.
        power: f64,
        /// The probability of exactly `high`.
        at_high: f64,
    },
}

impl Distribution {
    /// Uniform from `low` to `high`.
    pub fn uniform(low: f64, high: f64) -> Distribution {
        Distribution::Power {
            low,
            high,
            power: 1.0,
            at_high: 0.0,
        }
    }

    /// The number that two uniform ones in 0..1 stand for.
    pub fn number(&self, [first, second]: [f64; 2]) -> f64 {
        match self {
            Distribution::OneOf(numbers) => {
                let place = (first * numbers.len() as f64) as usize;
                numbers[place.min(numbers.len() - 1)]
            }
            Distribution::Power { high, at_high, .. } if second < *at_high => *high,
            Distribution::Power {
                low, high, power, ..
            } => low + (high - low) * libm::pow(first, *power),
        }
    }
}

/// What was drawn for a batch: a number per sample, by the names of the draws.
pub type Drawn = BTreeMap<String, Vec<f64>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_numbers_reach_the_ends_of_a_distribution() {
        let one_of = Distribution::OneOf(vec![19.0, 39.0, 59.0]);
        for (u, wanted) in [(0.0, 19.0), (0.34, 39.0), (0.999_999, 59.0)] {
            assert_eq!(one_of.number([u, 0.0]), wanted);
        }
        let power = Distribution::Power {
            low: 0.0,
            high: 2.0,
            power: 0.5,
            at_high: 0.25,
        };
        for (u, wanted) in [([0.0, 0.3], 0.0), ([0.25, 0.3], 1.0), ([0.25, 0.2], 2.0)] {
            assert_eq!(power.number(u), wanted);
        }
        assert_eq!(Distribution::uniform(3.0, 3.0).number([0.7, 0.0]), 3.0);
    }
}
