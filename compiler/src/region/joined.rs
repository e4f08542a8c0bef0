//! Joined buffers: many computed vectors that lie one after the other and are read as one.
//!
//! Takes regions, tells where parts lie. Regions store parts as any other buffer, so that each
//! producer stores right into its range; nobody copies them together. It decides nothing.

use crate::region::{Buffer, Regions};

impl Regions {
    /// The buffer that `part` is a part of, and its first element therein.
    pub fn part_of(&self, part: Buffer) -> Option<(Buffer, usize)> {
        self.joined.iter().find_map(|joined| {
            let place = joined.parts.iter().position(|own| *own == part)?;
            let before = joined.parts[..place].iter();
            let elements = before.map(|part| self.buffer(*part).extents.elements());
            Some((joined.whole, elements.sum()))
        })
    }

    /// The parts of a buffer; none of one that is not joined.
    pub fn parts(&self, whole: Buffer) -> &[Buffer] {
        let mut joined = self.joined.iter();
        let found = joined.find(|joined| joined.whole == whole);
        found.map_or(&[], |joined| &joined.parts)
    }
}
