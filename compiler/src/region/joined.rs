//! Joined buffers: many computed vectors that lie one after the other and are read as one.
//!
//! Takes regions, tells where parts lie. Regions store parts as any other buffer, so that each
//! producer stores right into its range; nobody copies them together. It decides nothing.

use crate::ops::{Concat, Op};
use crate::region::{Access, Anchor, Buffer, Index, Joined, Node, Output, Region, Regions};
use crate::value::extents::Extents;

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

    /// The same with a region for each joined buffer that copies its parts together, for those who
    /// cannot let buffers lie in others.
    pub fn with_copies(&self) -> Regions {
        let mut copied = self.clone();
        for joined in std::mem::take(&mut copied.joined) {
            let stores = |region: &Region| {
                let mut stored = region.stores().into_iter();
                stored.any(|buffer| joined.parts.contains(&buffer))
            };
            let last = copied.regions.iter().rposition(stores);
            let region = copied.copy(&joined);
            copied
                .regions
                .insert(last.map_or(0, |last| last + 1), region);
        }
        copied
    }

    fn copy(&self, joined: &Joined) -> Region {
        let operand = |part: &Buffer| {
            let Extents { dtype, shape } = &self.buffer(*part).extents;
            Access::whole(*part, *dtype, shape)
        };
        let domain = self.buffer(joined.whole).extents.shape.clone();
        let nodes = vec![Node::Anchor(Index::identity(&domain))];
        Region {
            anchor: Anchor::Op {
                op: Op::Concat(Concat { axis: 0 }),
                operands: joined.parts.len(),
            },
            operands: joined.parts.iter().map(operand).collect(),
            outputs: vec![Output::whole(joined.whole, domain, nodes)],
            origin: String::new(),
        }
    }
}
