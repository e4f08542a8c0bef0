//! Products that are computed in parts of their depth, where whole ones would leave a machine idle.
//!
//! Takes regions and the rates of a target, gives the same results by more regions: a product of
//! few blocks and much depth becomes a batch of products, each of one part of the depth, whose
//! results lie in a workspace of f32; an epilogue adds them up in order. Parts are groups of a
//! convolution and matrices of a batch, which every program computes already: nothing but access
//! maps is new.
//!
//! # Source
//! Osama, Merrill, Cecka, Garland and Owens 2023 (arXiv 2301.03598): the "fixed-split" schedule.

use crate::DType;
use crate::ops::{Add, Cast, Conv, Matmul, Op};
use crate::region::access::Step;
use crate::region::{
    Access, Anchor, Buffer, BufferData, Content, Index, Node, Output, Region, Regions, Scope,
};
use crate::target::{MatrixRates, Target};
use crate::tile::contraction::{Contraction, contraction};
use crate::tile::programs::{best_product, sum_seconds};
use crate::tile::recut::origins::Recut;
use crate::tile::region_ref::RegionRef;
use crate::value::extents::Extents;

/// Parts of a depth at most: each is stored and read once more.
const PARTS_MAX: usize = 32;

/// How many times faster parts must be than the whole: predictions are not better than that.
const GAIN_MIN: f64 = 1.2;

/// Turns of a loop over a part of a depth at least: fewer do not hide what comes before the first.
const TURNS_MIN: usize = 16;

/// Splits the products that are predicted to take less time so, each into as many parts as is
/// best. Targets without rates of matrices split nothing.
pub(super) fn apply(recut: Recut, target: &Target) -> Recut {
    let Some(rates) = &target.compute.matrices else {
        return recut;
    };
    let whole = recut.regions.clone();
    recut.each(|regions, id, region| {
        let found = RegionRef {
            regions: &whole,
            id,
        };
        let parts = parts(found, target, rates)?;
        in_parts(regions, region, parts)
    })
}

/// Into how many parts the depth of a product is split; `None` if it stays whole.
fn parts(region: RegionRef<'_>, target: &Target, rates: &MatrixRates) -> Option<usize> {
    let along = depth(&region)?;
    let found = contraction(region).ok()?;
    if !found.is_narrow() {
        return None;
    }
    let unit = TURNS_MIN * target.compute.blocks.depths.iter().max()?;
    let taps = found.depth / along.max(1);
    let fits = |parts: &usize| {
        let share = along / parts;
        along.is_multiple_of(*parts)
            && share.is_multiple_of(target.compute.blocks.depth_unit)
            && share * taps >= unit
    };
    let seconds = |parts: usize| {
        let elements = found.batch * found.planes * found.rows * found.columns * parts;
        let part = Contraction {
            batch: found.batch * parts,
            depth: found.depth / parts,
            columns: found.columns * found.planes,
            planes: 1,
            ..found.clone()
        };
        Some(best_product(&part, target)? + sum_seconds(elements, target, rates))
    };
    let timed = (2..=PARTS_MAX).filter(fits);
    let timed = timed.filter_map(|parts| Some((seconds(parts)?, parts)));
    let (best, parts) = timed.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (best * GAIN_MIN < best_product(&found, target)?).then_some(parts)
}

/// The extent that is split: channels of a convolution, or columns of a linear operator's operand;
/// `None` of a region that has none.
fn depth(region: &Region) -> Option<usize> {
    let [output] = region.outputs.as_slice() else {
        return None;
    };
    let splits = output.moments.is_none() && !output.domain.contains(&0);
    let weight = region.operands.get(1)?;
    match region.anchor.op()? {
        Op::Conv(conv) if splits && conv.groups == 1 => Some(weight.shape[1]),
        Op::Linear(_) if splits => Some(weight.shape[1]),
        _ => None,
    }
}

/// The product of each part of the depth, and the sum of all with the region's epilogue.
fn in_parts(regions: &mut Regions, region: &Region, parts: usize) -> Option<Vec<Region>> {
    let result = region.anchor_type()?;
    let (dtype, result) = (result.dtype, result.extents()?);
    let (x, weight) = (&region.operands[0], &region.operands[1]);
    let (anchor, operands, shape) = match region.anchor.op()? {
        Op::Conv(conv) => {
            let grouped = Conv {
                groups: parts,
                ..conv.clone()
            };
            let weight = weight.through(&grouped_weight(&weight.shape, parts));
            let mut shape = result.clone();
            shape[1] *= parts;
            (Op::Conv(grouped), vec![x.clone(), weight], shape)
        }
        Op::Linear(_) => {
            let (depth, rows) = x.shape.split_last()?;
            let (rows, features) = (rows.iter().product::<usize>(), weight.shape[0]);
            let share = depth / parts;
            let moved = |access: &Access, split: [usize; 3], order: [usize; 3]| {
                let moved = order.map(|axis| split[axis]);
                let split = access.through(&Step::reshape(&access.shape, &split));
                split.through(&Step::transpose(&order, &moved))
            };
            let x = moved(x, [rows, parts, share], [1, 0, 2]);
            let weight = moved(weight, [features, parts, share], [1, 2, 0]);
            let shape = vec![parts, rows, features];
            (Op::Matmul(Matmul), vec![x, weight], shape)
        }
        _ => return None,
    };
    let is_conv = matches!(anchor, Op::Conv(_));
    let mut data = BufferData::new(
        Extents {
            dtype: DType::F32,
            shape: shape.clone(),
        },
        Content::Computed,
    );
    if is_conv {
        // Channels last, as everything between convolutions lies.
        data.order = [&[0][..], &(2..shape.len()).collect::<Vec<_>>(), &[1]].concat();
    }
    let workspace = Buffer(u32::try_from(regions.buffers.len()).ok()?);
    let wide = |node| Node::Apply(Op::Cast(Cast { dtype: DType::F32 }), vec![node]);
    let nodes = vec![Node::Anchor(Index::identity(&shape)), wide(0)];
    let product = Region {
        anchor: Anchor::Op {
            op: anchor,
            operands: operands.len(),
        },
        operands,
        outputs: vec![Output::whole(workspace, shape.clone(), nodes)],
        origin: region.origin.clone(),
    };
    let whole = Access::whole(workspace, DType::F32, &shape);
    let part = |part: usize| match is_conv {
        true => {
            let first = (part * result[1]) as i64;
            whole.through(&Step::slice(1, first, 1, &result))
        }
        false => {
            let rows = [&[1][..], &shape[1..]].concat();
            let own = whole.through(&Step::slice(0, part as i64, 1, &rows));
            own.through(&Step::reshape(&rows, &result))
        }
    };
    let parts: Vec<Access> = (0..parts).map(part).collect();
    let sum = summed(region, &parts, dtype);
    regions.buffers.push(data);
    Some(vec![product, sum])
}

/// From `[features, channels, kernel…]` to `[parts · features, channels / parts, kernel…]`: each
/// group has all features and its share of the channels.
fn grouped_weight(weight: &[usize], parts: usize) -> Step {
    let share = weight[1] / parts;
    let shape = [&[parts * weight[0], share][..], &weight[2..]].concat();
    let scope = Scope::of(&shape);
    let mut index = Index::identity(&shape);
    let features = weight[0] as i64;
    let group = index[0].div(features, scope);
    index[1] = group.times(share as i64).add(&index[1]);
    index[0] = index[0].modulo(features, scope);
    Step::whole(&shape, index)
}

/// The epilogue of a region on the sum of `parts`, in their order, where it reads the anchor.
fn summed(region: &Region, parts: &[Access], dtype: DType) -> Region {
    let mut operands = region.operands[region.anchor_operands()..].to_vec();
    let outputs = region.outputs.iter().map(|output| {
        let mut nodes: Vec<Node> = Vec::new();
        // Where each node of the epilogue is now.
        let mut places = Vec::with_capacity(output.nodes.len());
        for node in &output.nodes {
            match node {
                Node::Anchor(index) => {
                    let walk = Step::whole(&output.domain, index.clone());
                    for (number, part) in parts.iter().enumerate() {
                        operands.push(part.through(&walk));
                        nodes.push(Node::Read(operands.len() - 1));
                        if number > 0 {
                            let last = nodes.len() - 1;
                            nodes.push(Node::Apply(Op::Add(Add), vec![last - 1, last]));
                        }
                    }
                    let sum = nodes.len() - 1;
                    nodes.push(Node::Apply(Op::Cast(Cast { dtype }), vec![sum]));
                }
                Node::Read(operand) => {
                    nodes.push(Node::Read(operand - region.anchor_operands()));
                }
                Node::Scalar(tensor) => nodes.push(Node::Scalar(tensor.clone())),
                Node::Apply(op, own) => {
                    let own = own.iter().map(|&node| places[node]);
                    nodes.push(Node::Apply(op.clone(), own.collect()));
                }
            }
            places.push(nodes.len() - 1);
        }
        Output {
            nodes,
            ..output.clone()
        }
    });
    let outputs = outputs.collect();
    Region {
        anchor: Anchor::Pointwise,
        operands,
        outputs,
        origin: region.origin.clone(),
    }
}
