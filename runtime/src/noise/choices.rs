//! Random subsets, as numpy's `RandomState` draws them.
//!
//! Takes a seed; returns numbers of samples. Never restarts: draws follow each other in one stream.

use super::twister::Twister;

/// A stream of random subsets.
#[derive(Debug, Clone)]
pub struct Choices {
    twister: Twister,
}

impl Choices {
    /// The stream of `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> Choices {
        Choices {
            twister: Twister::new(seed),
        }
    }

    /// `size` different numbers below `count`, or all of them if there are fewer.
    ///
    /// # Source
    /// numpy `RandomState.choice(count, size, replace=False)`: the first numbers of a permutation,
    /// by Fisher and Yates from the end.
    pub fn without_replacement(&mut self, count: u32, size: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..count as usize).collect();
        for last in (1..count).rev() {
            let other = self.at_most(last);
            numbers.swap(last as usize, other as usize);
        }
        numbers.truncate(size);
        numbers
    }

    /// A number from 0 to `most` (numpy `random_interval`): words under a mask until one is not
    /// above it.
    fn at_most(&mut self, most: u32) -> u32 {
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let number = self.twister.word() & mask;
            if number <= most {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rng = numpy.random.RandomState(2020)`, `rng.choice(n, k, replace=False)` of numpy 2.4.
    #[test]
    fn subsets_are_those_of_numpy() {
        let mut choices = Choices::new(2020);
        assert_eq!(choices.without_replacement(10, 4), [2, 4, 9, 1]);
        assert_eq!(
            choices.without_replacement(1000, 6),
            [358, 763, 430, 530, 677, 107]
        );
        assert_eq!(choices.without_replacement(1, 3), [0]);
        assert_eq!(choices.without_replacement(7, 7), [4, 1, 2, 3, 5, 6, 0]);
    }
}
