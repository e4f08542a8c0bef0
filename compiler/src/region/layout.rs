//! The order of a buffer's axes in memory: chosen once, for those who store and read it.
//!
//! Takes regions, gives every computed buffer the order in which the regions around it walk its
//! elements. Convolutions walk images channels last, so that what they sum lies innermost; other
//! contractions and attention walk their operands and results as they are numbered, through
//! their access maps. Pointwise regions pass on the order of what they touch, and other anchors
//! take what they find. Parameters, constants and results lie as they are numbered. It changes
//! no index: access maps speak of axes, whatever their order.

use std::collections::BTreeMap;

use crate::ops::{Class, Op};
use crate::region::index::{Index, Part};
use crate::region::{Access, Anchor, Buffer, Content, Output, Region, Regions};

/// How much a wish counts: what an anchor reads it may read many times.
#[derive(Debug, Clone, Copy)]
enum Weight {
    /// An epilogue reads it once.
    EpilogueRead = 1,
    /// It is stored once.
    Stored = 2,
    /// An anchor reads it.
    AnchorRead = 4,
}

/// The orders wished for one buffer, with the sum of their weights.
type Wishes = BTreeMap<Vec<usize>, u32>;

/// How a region visits a buffer: an index on each of its axes over a domain of these extents.
#[derive(Clone, Copy)]
struct Walk<'a> {
    buffer: Buffer,
    index: &'a [Index],
    domain: &'a [usize],
}

/// Chooses the order of each computed buffer that is not a result.
pub(super) fn choose(regions: &mut Regions) {
    let mut free = vec![true; regions.buffers.len()];
    for (free, data) in free.iter_mut().zip(&regions.buffers) {
        *free = data.content == Content::Computed;
    }
    for (_, buffer) in &regions.results {
        free[buffer.0 as usize] = false;
    }
    let mut wishes = vec![Wishes::new(); regions.buffers.len()];
    for region in &regions.regions {
        wish(regions, region, &mut wishes);
    }
    let best = |(wishes, free): (Wishes, &bool)| {
        // Of equal wishes the one nearest to the numbers of the axes is taken.
        let best = wishes.into_iter().rev().max_by_key(|(_, weight)| *weight);
        best.filter(|_| *free).map(|(order, _)| order)
    };
    let mut orders: Vec<Option<Vec<usize>>> = wishes.into_iter().zip(&free).map(best).collect();
    while pass_on(regions, &free, &mut orders) {}
    for (data, order) in regions.buffers.iter_mut().zip(orders) {
        if let Some(order) = order {
            data.order = order;
        }
    }
}

/// Notes the orders in which a contraction or attention visits its buffers.
fn wish(regions: &Regions, region: &Region, wishes: &mut [Wishes]) {
    let anchored = region.anchor_operands();
    let weights = is_weight_gradient(region);
    let (images, axes): (usize, fn(usize) -> Vec<usize>) = match region.anchor.class() {
        // The weight of a convolution is no image.
        Class::Conv => (if weights { anchored } else { 1 }, channels_last),
        Class::Gemm | Class::Attention => (anchored, numbered),
        Class::Pointwise | Class::Movement | Class::Row | Class::Gather | Class::Plain => return,
    };
    let mut add = |walk: Walk<'_>, domain_order: &[usize], weight: Weight| {
        let order = walk.order(domain_order);
        let wishes: &mut Wishes = &mut wishes[walk.buffer.0 as usize];
        *wishes.entry(order).or_insert(0) += weight as u32;
    };
    for access in &region.operands[..images] {
        let order = axes(access.shape.len());
        for walk in walks(access) {
            add(walk, &order, Weight::AnchorRead);
        }
    }
    for output in &region.outputs {
        let order = match weights {
            true => numbered(output.domain.len()),
            false => axes(output.domain.len()),
        };
        add(stored(output), &order, Weight::Stored);
        let read = region.operands[anchored..].iter();
        for walk in read
            .filter(|access| access.shape == output.domain)
            .flat_map(walks)
        {
            if walk.covers(regions) {
                add(walk, &order, Weight::EpilogueRead);
            }
        }
    }
}

/// Whether the region computes the gradient of a convolution's weight: a weight itself, of images.
fn is_weight_gradient(region: &Region) -> bool {
    matches!(region.anchor.op(), Some(Op::ConvWeightGradient(_)))
}

/// Gives what pointwise regions touch the order of something else that they touch; says whether
/// there was any.
fn pass_on(regions: &Regions, free: &[bool], orders: &mut [Option<Vec<usize>>]) -> bool {
    let mut changed = false;
    for region in &regions.regions {
        if region.anchor != Anchor::Pointwise {
            continue;
        }
        let touched = region.operands.iter().flat_map(walks);
        let touched: Vec<Walk<'_>> = [stored(&region.outputs[0])]
            .into_iter()
            .chain(touched)
            .collect();
        let known = touched.iter().find_map(|walk| {
            let order = orders[walk.buffer.0 as usize].as_ref()?;
            walk.domain_order(regions, order)
        });
        let Some(domain_order) = known else { continue };
        for walk in touched {
            let order = &mut orders[walk.buffer.0 as usize];
            if order.is_none() && free[walk.buffer.0 as usize] && walk.covers(regions) {
                *order = Some(walk.order(&domain_order));
                changed = true;
            }
        }
    }
    changed
}

fn stored(output: &Output) -> Walk<'_> {
    Walk {
        buffer: output.buffer,
        index: &output.store,
        domain: &output.domain,
    }
}

fn walks(access: &Access) -> impl Iterator<Item = Walk<'_>> {
    access.pieces.iter().map(|piece| Walk {
        buffer: piece.buffer,
        index: &piece.index,
        domain: &access.shape,
    })
}

impl Walk<'_> {
    /// The order of the buffer's axes under which a visit of the domain in `domain_order` goes
    /// from neighbour to neighbour.
    fn order(&self, domain_order: &[usize]) -> Vec<usize> {
        let rank = self.index.len();
        if self.index == Index::identity(self.domain) {
            return domain_order.to_vec();
        }
        let mut steps = vec![0.0; self.domain.len()];
        let mut step = 1.0;
        for &axis in domain_order.iter().rev() {
            steps[axis] = step;
            step *= self.domain[axis] as f64;
        }
        let axes = (0..rank).filter_map(|axis| Some((period(&self.index[axis], &steps)?, axis)));
        let mut walked: Vec<(f64, usize)> = axes.collect();
        walked.sort_by(|(a, axis), (b, other)| b.total_cmp(a).then(axis.cmp(other)));
        let walked: Vec<usize> = walked.into_iter().map(|(_, axis)| axis).collect();
        completed(&walked, rank)
    }

    /// The order of the domain's axes in which a visit goes through a buffer of this order from
    /// neighbour to neighbour; `None` where the walk leaves axes of the domain out.
    fn domain_order(&self, regions: &Regions, order: &[usize]) -> Option<Vec<usize>> {
        if self.index == Index::identity(self.domain) {
            return Some(order.to_vec());
        }
        let mut data = regions.buffer(self.buffer).clone();
        data.order = order.to_vec();
        let strides = data.strides();
        let mut walked: Vec<(f64, usize)> = Vec::with_capacity(self.domain.len());
        for axis in (0..self.domain.len()).filter(|&axis| self.domain[axis] > 1) {
            let steps = self.index.iter().zip(&strides);
            let steps = steps.filter_map(|(index, &stride)| {
                step_of(index, axis).map(|step| step * stride as f64)
            });
            walked.push((steps.min_by(f64::total_cmp)?, axis));
        }
        walked.sort_by(|(a, axis), (b, other)| b.total_cmp(a).then(axis.cmp(other)));
        let walked: Vec<usize> = walked.into_iter().map(|(_, axis)| axis).collect();
        Some(completed(&walked, self.domain.len()))
    }

    /// Whether every axis of the buffer that has several elements is walked: not a vector that
    /// is repeated, nor the mean of each group.
    fn covers(&self, regions: &Regions) -> bool {
        let walked = |axis: usize| self.index.iter().any(|index| index.uses(axis));
        let shape = &regions.buffer(self.buffer).extents.shape;
        let whole = self.index.iter().zip(shape);
        let mut whole = whole.filter(|(_, extent)| **extent > 1);
        whole.all(|(index, _)| index.as_constant().is_none())
            && (0..self.domain.len()).all(|axis| self.domain[axis] <= 1 || walked(axis))
    }
}

/// How far apart two visits of the domain are, in its own order, between which an index grows by
/// one: `steps` tells it for the axes of the domain. `None` for an index that never changes.
fn period(index: &Index, steps: &[f64]) -> Option<f64> {
    let (_, parts) = index.parts();
    let periods = parts.filter_map(|(part, coefficient)| {
        let period = match part {
            Part::Axis(axis) => steps[axis],
            Part::Div(inner, d) => period(inner, steps)? * d as f64,
            Part::Mod(inner, _) => period(inner, steps)?,
        };
        Some(period / coefficient.unsigned_abs() as f64)
    });
    periods.min_by(f64::total_cmp)
}

/// By how much an index grows with the index on `axis`, on the whole; `None` if it does not.
fn step_of(index: &Index, axis: usize) -> Option<f64> {
    let (_, parts) = index.parts();
    let steps = parts.filter_map(|(part, coefficient)| {
        let step = match part {
            Part::Axis(own) => (own == axis).then_some(1.0)?,
            Part::Div(inner, d) => step_of(inner, axis)? / d as f64,
            Part::Mod(inner, _) => step_of(inner, axis)?,
        };
        Some(step * coefficient.unsigned_abs() as f64)
    });
    steps.min_by(f64::total_cmp)
}

/// A whole order from that of the axes with several elements; where the others lie is nothing to
/// memory, so that one of the two usual orders is taken if it fits.
fn completed(walked: &[usize], rank: usize) -> Vec<usize> {
    let usual = [numbered(rank), channels_last(rank)];
    let fits = |order: &&Vec<usize>| {
        let own = order.iter().filter(|axis| walked.contains(axis));
        own.eq(walked)
    };
    match usual.iter().find(fits) {
        Some(order) => order.clone(),
        None => {
            let single = (0..rank).filter(|axis| !walked.contains(axis));
            single.chain(walked.iter().copied()).collect()
        }
    }
}

fn numbered(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// The order of images `[batch, channels, spatial…]`.
fn channels_last(rank: usize) -> Vec<usize> {
    match rank {
        0..3 => numbered(rank),
        _ => [0].into_iter().chain(2..rank).chain([1]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{BufferData, Scope};
    use crate::value::dtype::DType;
    use crate::value::extents::Extents;

    #[test]
    fn strides_follow_the_order() {
        let cases: [(&[usize], &[usize], &[usize]); 4] = [
            (&[2, 3, 4, 5], &[0, 1, 2, 3], &[60, 20, 5, 1]),
            (&[2, 3, 4, 5], &[0, 2, 3, 1], &[60, 1, 15, 3]),
            (&[2, 3, 4, 5], &[0, 2, 1, 3], &[60, 5, 15, 1]),
            (&[], &[], &[]),
        ];
        for (shape, order, wanted) in cases {
            let extents = Extents {
                dtype: DType::F32,
                shape: shape.to_vec(),
            };
            let mut data = BufferData::new(extents, Content::Computed);
            data.order = order.to_vec();
            assert_eq!(data.strides(), wanted, "{shape:?} in {order:?}");
        }
    }

    #[test]
    fn an_order_follows_the_walk() {
        let domain = [2, 12, 6];
        let scope = Scope::of(&domain);
        let [i0, i1, i2] = [0, 1, 2].map(Index::axis);
        let rows = [i1.div(4, scope), i1.modulo(4, scope)];
        let heads = [i2.div(3, scope), i2.modulo(3, scope)];
        let [row, column] = rows;
        let [head, width] = heads;
        let zero = Index::constant(0);
        let cases: [(&[Index], [usize; 3], &[usize]); 4] = [
            (
                &[i0.clone(), i2.clone(), row, column],
                [0, 1, 2],
                &[0, 2, 3, 1],
            ),
            (
                &[i0.clone(), head, i1.clone(), width],
                [0, 1, 2],
                &[0, 2, 1, 3],
            ),
            (&[i0.clone(), i2.clone(), i1.clone()], [0, 2, 1], &[0, 1, 2]),
            (&[zero, i2, i1, i0], [2, 0, 1], &[0, 1, 3, 2]),
        ];
        for (index, domain_order, wanted) in cases {
            let walk = Walk {
                buffer: Buffer(0),
                index,
                domain: &domain,
            };
            assert_eq!(walk.order(&domain_order), wanted, "{index:?}");
        }
    }
}
