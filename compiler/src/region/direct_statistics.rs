//! Statistics of what was stored, for targets that store no moments on the side.
//!
//! Takes regions in which contractions store moments for the next group normalisation, gives the
//! same with statistics that read what was normalised itself: one region in place of two launches,
//! and rows of several images may share a tile. It undoes what forming did for processors.

use crate::region::access::Step;
use crate::region::{Access, Anchor, Buffer, Regions};

impl Regions {
    /// The same regions without side reductions. The buffers of their moments stay in the list,
    /// unused.
    pub fn with_direct_statistics(mut self) -> Regions {
        let stored = self.regions.iter().flat_map(|region| &region.outputs);
        let sources = stored.filter_map(|output| Some((output.moments?, output.buffer)));
        let sources: Vec<(Buffer, Buffer)> = sources.collect();
        let mut direct = Vec::new();
        for (number, region) in self.regions.iter().enumerate() {
            if let Anchor::MergeMoments {
                groups, epsilon, ..
            } = region.anchor
            {
                let operand = normalised(&self, &region.operands[0], &sources);
                direct.push((number, Anchor::Statistics { groups, epsilon }, operand));
            }
        }
        // One merge that cannot be undone keeps all moments: they may be its.
        if direct.iter().any(|(.., operand)| operand.is_none()) {
            return self;
        }
        for (number, anchor, operand) in direct {
            let region = &mut self.regions[number];
            region.anchor = anchor;
            region.operands.splice(..1, operand);
        }
        for region in &mut self.regions {
            for output in &mut region.outputs {
                output.moments = None;
            }
        }
        self
    }
}

/// The tensor whose moments `merged` shows, channel after channel; `None` where it shows anything
/// else.
fn normalised(regions: &Regions, merged: &Access, sources: &[(Buffer, Buffer)]) -> Option<Access> {
    let source = |moments: Buffer| {
        let (_, buffer) = sources.iter().find(|(own, _)| *own == moments)?;
        Some((*buffer, &regions.buffer(*buffer).extents))
    };
    let (_, first) = source(merged.pieces.first()?.buffer)?;
    let mut shape = first.shape.clone();
    *shape.get_mut(1)? = merged.shape[1];
    let (mut pieces, mut start) = (Vec::new(), 0);
    for piece in &merged.pieces {
        let (buffer, own) = source(piece.buffer)?;
        let channels = own.shape.get(1).copied()?;
        let part = |axes: &[usize], buffer: Buffer, of: &[usize]| {
            let whole = Access::whole(buffer, own.dtype, of);
            whole.through(&Step::part(1, start, channels, axes)).pieces
        };
        let moments = regions.buffer(piece.buffer).extents.shape.as_slice();
        if part(&merged.shape, piece.buffer, moments) != [piece.clone()]
            || own.dtype != first.dtype
            || own.shape[0] != shape[0]
            || own.shape[2..] != shape[2..]
        {
            return None;
        }
        pieces.extend(part(&shape, buffer, &own.shape));
        start += channels as i64;
    }
    (start == shape[1] as i64).then_some(Access {
        dtype: first.dtype,
        shape,
        pieces,
        fill: None,
    })
}
