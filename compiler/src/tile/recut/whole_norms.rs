//! Group normalisations that one region computes: statistics, and what becomes of each element.
//!
//! Takes statistics that one pointwise region alone reads, gives the region of both: a block has
//! one group of one image, which it reads again while it lies near. It is left as it is where
//! groups are long, for then all blocks together are faster at what comes after the statistics.

use crate::region::access::Step;
use crate::region::{
    Access, Anchor, Buffer, Content, Index, Node, Output, Region, RegionId, Regions,
};
use crate::target::{Blocking, Target};
use crate::tile::recut::origins::Recut;

/// Elements of a group of one image at most.
const ELEMENTS_MAX: usize = 1 << 17;

/// Channels of a group are a multiple of this: neighbours that are stored at a time.
const CHANNELS_UNIT: usize = 4;

/// See the card. A processor needs none of it: the cache of a thread holds whole rows.
pub(super) fn apply(recut: Recut, target: &Target) -> Recut {
    let Blocking::Staged { .. } = target.compute.blocking else {
        return recut;
    };
    let joined = joined(&recut.regions);
    recut.each(|_, id, _| {
        let is_read = joined.iter().any(|(statistics, ..)| *statistics == id);
        let own = joined.iter().find(|(_, reader, _)| *reader == id);
        match own {
            Some((.., region)) => Some(vec![region.clone()]),
            None => is_read.then(Vec::new),
        }
    })
}

/// Statistics, their only readers, and the region of both.
fn joined(regions: &Regions) -> Vec<(RegionId, RegionId, Region)> {
    let mut readers: Vec<Vec<RegionId>> = vec![Vec::new(); regions.buffers.len()];
    for (id, region) in regions.iter() {
        for buffer in region.reads() {
            readers[buffer.0 as usize].push(id);
        }
    }
    let joins = |(id, region): (RegionId, &Region)| {
        let [output] = region.outputs.as_slice() else {
            return None;
        };
        let is_result = regions.results.iter().any(|(_, own)| *own == output.buffer);
        match readers[output.buffer.0 as usize].as_slice() {
            [reader] if !is_result && *reader > id => {
                let after = &regions.regions[reader.0 as usize];
                Some((id, *reader, join(regions, region, after)?))
            }
            _ => None,
        }
    };
    regions.iter().filter_map(joins).collect()
}

/// The region of both, if it may be one.
fn join(regions: &Regions, statistics: &Region, after: &Region) -> Option<Region> {
    let Anchor::Statistics { groups, .. } = statistics.anchor else {
        return None;
    };
    let x = &statistics.operands[0];
    let share = x.shape[1].checked_div(groups)?;
    let ([own], [output]) = (statistics.outputs.as_slice(), after.outputs.as_slice()) else {
        return None;
    };
    let [Node::Anchor(index)] = own.nodes.as_slice() else {
        return None;
    };
    let elements = share * x.shape[2..].iter().product::<usize>();
    let stored = regions.buffer(output.buffer);
    let fits = after.anchor == Anchor::Pointwise
        && *index == Index::identity(&own.domain)
        && own.store == *index
        && share.is_multiple_of(CHANNELS_UNIT)
        && (1..=ELEMENTS_MAX).contains(&elements)
        && output.domain == x.shape
        && output.store == Index::identity(&output.domain)
        && stored.content == Content::Computed
        && stored.strides().get(1) == Some(&1);
    if !fits {
        return None;
    }
    let mut operands = vec![x.clone()];
    // Where each operand is now, or which number of the statistics it was.
    let mut places = Vec::with_capacity(after.operands.len());
    for operand in &after.operands {
        let number = match operand.pieces.iter().any(|p| p.buffer == own.buffer) {
            true => Some(number(operand, own.buffer, share)?),
            false => None,
        };
        places.push(match number {
            Some(number) => Err(number),
            None => Ok(operands.len()),
        });
        if number.is_none() {
            operands.push(operand.clone());
        }
    }
    let nodes = output.nodes.iter().map(|node| match node {
        Node::Read(operand) => match places[*operand] {
            Ok(place) => Node::Read(place),
            Err(number) => Node::Anchor(Step::group(&x.shape, share, number).index),
        },
        Node::Anchor(_) | Node::Scalar(_) | Node::Apply(..) => node.clone(),
    });
    Some(Region {
        anchor: statistics.anchor.clone(),
        operands,
        outputs: vec![Output {
            nodes: nodes.collect(),
            ..output.clone()
        }],
        origin: after.origin.clone(),
    })
}

/// Which number of its group's statistics each element is shown, if always the same one.
fn number(operand: &Access, statistics: Buffer, share: usize) -> Option<i64> {
    let piece = operand.single()?;
    let number = piece.index.get(2)?.as_constant()?;
    let wanted = Step::group(&operand.shape, share, number).index;
    (piece.buffer == statistics && piece.index == wanted).then_some(number)
}
