//! MT19937, the generator of torch on processors and of numpy's `RandomState`.
//!
//! Takes a seed; returns words of 32 bits, one after the other. What they become is its caller's.
//! Source: Matsumoto and Nishimura 1998.

/// Words of the twister's state.
const STATE_WORDS: usize = 624;
/// Distance of the word that a twist mixes in.
const SHIFT_WORDS: usize = 397;

/// The twister.
#[derive(Debug, Clone)]
pub(super) struct Twister {
    state: [u32; STATE_WORDS],
    /// Next word of `state` to return; `STATE_WORDS` when the state is used up.
    next: usize,
}

impl Twister {
    /// The twister of a seed.
    pub(super) fn new(seed: u32) -> Twister {
        let mut state = [seed; STATE_WORDS];
        let mut previous = state[0];
        for (index, word) in (1u32..).zip(state.iter_mut().skip(1)) {
            previous = (previous ^ (previous >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(index);
            *word = previous;
        }
        Twister {
            state,
            next: STATE_WORDS,
        }
    }

    /// The next word, tempered.
    pub(super) fn word(&mut self) -> u32 {
        if self.next == STATE_WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..STATE_WORDS {
            let following = self.state[(index + 1) % STATE_WORDS];
            let joined = (self.state[index] & 0x8000_0000) | (following & 0x7FFF_FFFF);
            let matrix = if joined & 1 == 0 { 0 } else { 0x9908_B0DF };
            let shifted = self.state[(index + SHIFT_WORDS) % STATE_WORDS];
            self.state[index] = shifted ^ (joined >> 1) ^ matrix;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 10,000th word of the standard's default seed (C++ [rand.predef]).
    #[test]
    fn the_twister_gives_the_standards_word() {
        let mut generator = Twister::new(5489);
        let last = (0..10_000).map(|_| generator.word()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
