//! The rules of regions, for what formation gives and after each of its rules in debug builds.
//!
//! Takes regions, gives the first rule that they break. What passes here a kernel may trust.
//!
//! * R1: an access has an index for each axis of its buffers, which its bounds keep within them.
//! * R2: an access has the element type of its buffers and of its border.
//! * R3: an anchor has its operands, and its operator takes their types.
//! * R4: a node reads earlier nodes, operands behind the anchor's that have the extents of the
//!   domain, or the anchor within its extents.
//! * R5: a node applies a pointwise operator that takes the types of its operands; what is stored
//!   has the element type of its buffer.
//! * R6: the elements of a domain are stored at as many places of the buffer, each at one.
//! * R7: a buffer is stored once or given, and that before it is read or returned; of a joined one
//!   that holds for its parts.
//! * R8: the order of a buffer names each axis once; what is given or returned lies as its axes are
//!   numbered.
//! * R9: moments `[batch, channels, 2]` in the accumulator's type, in that order, are of a buffer
//!   `[batch, channels, …]`.
//! * R10: a joined buffer is a vector that no region stores, and has as many elements as its
//!   parts: computed vectors of its element type, each in one place only.
//!
//! That the pieces of an access do not overlap and leave nothing out but for a border would take a
//! visit of every element; the oracle, which makes it, checks that.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::graph::TensorType;
use crate::ops::shape::each_index;
use crate::region::access::{inverse, within};
use crate::region::{
    Access, Anchor, Buffer, BufferData, Content, Index, Node, Output, Region, RegionId, Regions,
    Scope,
};
use crate::value::dtype::DType;
use crate::value::extents::Extents;

/// Walks over more elements than this are judged by their ranges alone.
const VISITS_MAX: usize = 1 << 12;

/// A rule that regions break.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{rule}: {region} at {origin:?} has {found}, wanted {wanted}")]
pub struct RegionError {
    /// The rule's number.
    pub rule: &'static str,
    /// The region; for what is wrong with a buffer, one that is behind all.
    pub region: RegionId,
    /// Where it comes from.
    pub origin: String,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: &'static str,
}

/// A rule's number, what was found and what was wanted.
type Broken = (&'static str, String, &'static str);

/// Checks all rules.
///
/// # Errors
/// With the first rule that is broken, and where.
pub fn verify(regions: &Regions) -> Result<(), RegionError> {
    let mut ready: Vec<bool> = regions
        .buffers
        .iter()
        .map(|data| data.content != Content::Computed)
        .collect();
    let ends = |(rule, found, wanted): Broken| RegionError {
        rule,
        region: RegionId(regions.regions.len() as u32),
        origin: regions.name.clone(),
        found,
        wanted,
    };
    check_joined(regions).map_err(ends)?;
    for (id, region) in regions.iter() {
        let named = |(rule, found, wanted): Broken| RegionError {
            rule,
            region: id,
            origin: region.origin.clone(),
            found,
            wanted,
        };
        check_region(regions, region).map_err(named)?;
        check_flow(region, &mut ready).map_err(named)?;
        for joined in &regions.joined {
            let mut parts = joined.parts.iter();
            ready[joined.whole.0 as usize] = parts.all(|part| ready[part.0 as usize]);
        }
    }
    check_ends(regions, &ready).map_err(ends)
}

fn check_region(regions: &Regions, region: &Region) -> Result<(), Broken> {
    for access in &region.operands {
        check_access(regions, access)?;
    }
    let anchor = check_anchor(region)?;
    for output in &region.outputs {
        check_nodes(regions, region, output, anchor.as_ref())?;
        check_store(regions, output)?;
        check_moments(regions, output)?;
    }
    Ok(())
}

/// R1 and R2.
fn check_access(regions: &Regions, access: &Access) -> Result<(), Broken> {
    for piece in &access.pieces {
        let Extents { dtype, shape } = &regions.buffer(piece.buffer).extents;
        if *dtype != access.dtype {
            let found = format!("{} of {dtype} read as {}", piece.buffer, access.dtype);
            return Err(("R2", found, "one element type"));
        }
        if !piece.stays_within(&access.shape, shape) {
            let found = format!("{} of {shape:?} read at {:?}", piece.buffer, piece.index);
            return Err(("R1", found, "an index within each of its extents"));
        }
    }
    match &access.fill {
        Some(fill) if fill.dtype() != access.dtype || fill.elements() != 1 => {
            let found = format!(
                "a border of {} elements of {}",
                fill.elements(),
                fill.dtype()
            );
            Err(("R2", found, "one number of the element type"))
        }
        Some(_) | None => Ok(()),
    }
}

/// R3; gives the type of what the anchor computes.
fn check_anchor(region: &Region) -> Result<Option<TensorType>, Broken> {
    let (found, wanted) = (region.operands.len(), region.anchor_operands());
    if found < wanted {
        let found = format!("{found} operands for an anchor of {wanted}");
        return Err(("R3", found, "all operands of the anchor"));
    }
    let operands = &region.operands[..wanted];
    match &region.anchor {
        Anchor::Pointwise => Ok(None),
        Anchor::Op { op, .. } => region.infer_anchor().map_err(|violation| {
            let found = format!("{}: {violation}", op.name());
            ("R3", found, "operands that the anchor takes")
        }),
        Anchor::Statistics { groups, .. } | Anchor::MergeMoments { groups, .. } => {
            let shape = &operands[0].shape;
            let moments = matches!(region.anchor, Anchor::MergeMoments { .. });
            let fits = shape.len() >= 2 && *groups > 0 && shape[1].is_multiple_of(*groups);
            match fits && (!moments || shape[2..] == [2]) {
                true => Ok(region.anchor_type()),
                false => {
                    let found = format!("statistics of {groups} groups of {shape:?}");
                    Err(("R3", found, "channels in equal groups"))
                }
            }
        }
    }
}

/// R4 and R5.
fn check_nodes(
    regions: &Regions,
    region: &Region,
    output: &Output,
    anchor: Option<&TensorType>,
) -> Result<(), Broken> {
    let mut types: Vec<DType> = Vec::with_capacity(output.nodes.len());
    for node in &output.nodes {
        types.push(match node {
            Node::Anchor(index) => anchor_node(index, &output.domain, anchor)?,
            Node::Read(operand) => {
                let access = region.operands[region.anchor_operands()..]
                    .get(operand.wrapping_sub(region.anchor_operands()))
                    .filter(|access| access.shape == output.domain);
                let Some(access) = access else {
                    let found = format!("a node that reads x{operand}");
                    return Err(("R4", found, "an operand of the epilogue over its domain"));
                };
                access.dtype
            }
            Node::Scalar(tensor) if tensor.shape().is_empty() => tensor.dtype(),
            Node::Scalar(tensor) => {
                let found = format!("a scalar of extents {:?}", tensor.shape());
                return Err(("R5", found, "one number"));
            }
            Node::Apply(op, operands) => {
                if let Some(later) = operands.iter().find(|&&node| node >= types.len()) {
                    let found = format!("n{} that reads n{later}", types.len());
                    return Err(("R4", found, "operands that come before"));
                }
                let shape = || output.domain.iter().copied();
                let operands = operands
                    .iter()
                    .map(|&node| TensorType::new(types[node], shape()));
                let inferred = op.infer(&operands.collect::<Vec<_>>());
                let inferred = inferred.ok().filter(|_| op.is_pointwise());
                let result =
                    inferred.filter(|ty| ty.shape == TensorType::new(ty.dtype, shape()).shape);
                let Some(ty) = result else {
                    let found = format!("n{} = {}", types.len(), op.name());
                    return Err(("R5", found, "a pointwise operator that takes its operands"));
                };
                ty.dtype
            }
        });
    }
    let wanted = regions.buffer(output.buffer).extents.dtype;
    match types.last() {
        Some(found) if *found == wanted => Ok(()),
        found => {
            let found = format!("{found:?} to store in {} of {wanted}", output.buffer);
            Err(("R5", found, "the element type of the buffer"))
        }
    }
}

/// The element type of an anchor that is read at these indices.
fn anchor_node(
    index: &[Index],
    domain: &[usize],
    anchor: Option<&TensorType>,
) -> Result<DType, Broken> {
    let extents = anchor.and_then(TensorType::extents);
    let scope = Scope::of(domain);
    let empty = domain.contains(&0);
    let fits =
        |shape: &Vec<usize>| shape.len() == index.len() && (empty || within(index, scope, shape));
    match (anchor, extents.filter(fits)) {
        (Some(ty), Some(_)) => Ok(ty.dtype),
        (_, _) => {
            let found = format!("a node that reads the anchor at {index:?}");
            Err(("R4", found, "indices within what the anchor computes"))
        }
    }
}

/// R6.
fn check_store(regions: &Regions, output: &Output) -> Result<(), Broken> {
    let shape = &regions.buffer(output.buffer).extents.shape;
    let domain = &output.domain;
    let count = |shape: &[usize]| shape.iter().map(|&extent| extent as u128).product::<u128>();
    let scope = Scope::of(domain);
    let covers = output.store.len() == shape.len()
        && count(shape) == count(domain)
        && (count(shape) == 0
            || within(&output.store, scope, shape)
                && (inverse(&output.store, domain, shape).is_some()
                    || count(shape) > VISITS_MAX as u128
                    || visits_all(&output.store, domain, shape)));
    match covers {
        true => Ok(()),
        false => {
            let found = format!(
                "{:?} of {domain:?} in {} of {shape:?}",
                output.store, output.buffer
            );
            Err(("R6", found, "a place of its own for each element"))
        }
    }
}

/// Whether a walk that stays within `shape` comes to each element once.
fn visits_all(walk: &[Index], domain: &[usize], shape: &[usize]) -> bool {
    let mut seen = vec![0u8; shape.iter().product()];
    each_index(domain, |index| {
        let axes = walk.iter().zip(shape);
        let place = axes.fold(0, |sum, (axis, extent)| {
            sum * extent + axis.at(index) as usize
        });
        seen[place] = seen[place].saturating_add(1);
    });
    seen.iter().all(|&count| count == 1)
}

/// R9.
fn check_moments(regions: &Regions, output: &Output) -> Result<(), Broken> {
    let Some(moments) = output.moments else {
        return Ok(());
    };
    let of = &regions.buffer(output.buffer).extents;
    let data = regions.buffer(moments);
    let found = &data.extents;
    let fits = of.shape.len() >= 2
        && data.is_row_major()
        && found.dtype == of.dtype.accumulator()
        && found.shape == [of.shape[0], of.shape[1], 2];
    match fits {
        true => Ok(()),
        false => {
            let found = format!("moments {found:?} of {of:?}");
            Err(("R9", found, "two numbers for each image and channel"))
        }
    }
}

/// R10.
fn check_joined(regions: &Regions) -> Result<(), Broken> {
    let mut taken = BTreeSet::new();
    for joined in &regions.joined {
        let whole = regions.buffer(joined.whole);
        let is_vector = |data: &BufferData| {
            let alike = data.extents.dtype == whole.extents.dtype;
            alike && data.extents.shape.len() == 1 && data.content == Content::Computed
        };
        let parts = || joined.parts.iter().map(|part| regions.buffer(*part));
        let elements: usize = parts().map(|part| part.extents.elements()).sum();
        let mut buffers = [joined.whole]
            .into_iter()
            .chain(joined.parts.iter().copied());
        let stores = |region: &Region| region.stores().contains(&joined.whole);
        let fits = is_vector(whole)
            && parts().all(is_vector)
            && elements == whole.extents.elements()
            && buffers.all(|buffer| taken.insert(buffer))
            && !regions.regions.iter().any(stores);
        if !fits {
            let found = format!("{} joined of {:?}", joined.whole, joined.parts);
            return Err((
                "R10",
                found,
                "computed vectors that add up to one that nobody stores",
            ));
        }
    }
    Ok(())
}

/// R7 within the regions.
fn check_flow(region: &Region, ready: &mut [bool]) -> Result<(), Broken> {
    if let Some(buffer) = region.reads().into_iter().find(|b| !ready[b.0 as usize]) {
        let found = format!("{buffer}, which nothing stored");
        return Err(("R7", found, "buffers that are stored before they are read"));
    }
    for buffer in region.stores() {
        if std::mem::replace(&mut ready[buffer.0 as usize], true) {
            let found = format!("{buffer}, which is there already");
            return Err(("R7", found, "buffers that are stored once"));
        }
    }
    Ok(())
}

/// R7 for the results, and R8.
fn check_ends(regions: &Regions, ready: &[bool]) -> Result<(), Broken> {
    let mut kept: Vec<bool> = regions
        .buffers
        .iter()
        .map(|data| data.content != Content::Computed)
        .collect();
    for (name, buffer) in &regions.results {
        kept[buffer.0 as usize] = true;
        if !ready[buffer.0 as usize] {
            let found = format!("{buffer} as {name:?}, which nothing stored");
            return Err(("R7", found, "results that are stored"));
        }
    }
    for (number, data) in regions.buffers.iter().enumerate() {
        let mut order = data.order.clone();
        order.sort_unstable();
        let whole = order.into_iter().eq(0..data.extents.shape.len());
        if !whole || kept[number] && !data.is_row_major() {
            let found = format!("{} in order {:?}", Buffer(number as u32), data.order);
            return Err((
                "R8",
                found,
                "each axis once, at its own place where others see it",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::parse;
    use crate::ops::{Add, Op, Softmax};
    use crate::region::form;
    use crate::value::tensor::{Tensor, Values};

    /// A convolution `r0` whose moments `r1` merges, and the norm `r2`.
    const NORM: &str = r#"func f {
        %0 = input "x" : f32[2, 3, 4, 5]
        %1 = weight "w" : f32[6, 3, 1, 1]
        %2 = weight "scale" : f32[6]
        %3 = conv(%0, %1) {strides = [1, 1], pads_before = [0, 0], pads_after = [0, 0], dilations = [1, 1], groups = 1}
        %4 = group_norm(%3, %2, %2) {groups = 2, epsilon = 0.1}
        return "y" %4
    }"#;

    fn good() -> Regions {
        let module = parse(NORM).expect("a graph");
        let regions = form(&module.funcs[0]).expect("known sizes").regions;
        verify(&regions).expect("formation keeps the rules");
        regions
    }

    fn check(rule: &str, spoil: impl Fn(&mut Regions)) {
        let mut regions = good();
        spoil(&mut regions);
        let error = verify(&regions).expect_err("it is spoiled");
        assert_eq!(error.rule, rule, "{error}");
        assert!(
            error.to_string().starts_with(&format!("{rule}: r")),
            "{error}"
        );
    }

    #[test]
    fn r10_parts_add_up_to_what_is_joined() {
        let text = r#"func f {
            %0 = input "x" : f32[3]
            %1 = neg(%0)
            %2 = exp(%0)
            %3 = concat(%0, %1, %2, %1, %2) {axis=0}
            %4 = neg(%3)
            return "y" %4
        }"#;
        let module = parse(text).expect("a graph");
        let regions = form(&module.funcs[0]).expect("known sizes").regions;
        let spoiled: [fn(&mut Regions); 4] = [
            |r| r.joined[0].parts.truncate(4),
            |r| r.joined[0].parts[1] = r.joined[0].parts[0],
            |r| r.joined[0].whole = r.results[0].1,
            |r| r.joined.push(r.joined[0].clone()),
        ];
        for spoil in spoiled {
            let mut regions = regions.clone();
            spoil(&mut regions);
            let error = verify(&regions).expect_err("it is spoiled");
            assert_eq!(error.rule, "R10", "{error}");
        }
        let mut unstored = regions;
        let stored = unstored.joined[0].parts[2];
        unstored
            .regions
            .retain(|region| !region.stores().contains(&stored));
        let error = verify(&unstored).expect_err("a part is missing");
        assert_eq!(error.rule, "R7", "{error}");
    }

    #[test]
    fn r1_indices_stay_within_buffers() {
        fn index(regions: &mut Regions) -> &mut Vec<Index> {
            &mut regions.regions[0].operands[0].pieces[0].index
        }
        check("R1", |r| index(r)[2] = Index::axis(2).plus(1));
        check("R1", |r| drop(index(r).pop()));
    }

    #[test]
    fn r2_accesses_have_the_type_of_their_buffers() {
        check("R2", |r| r.regions[2].operands[0].dtype = DType::F16);
        check("R2", |r| {
            let two = Tensor::from_values(DType::F32, &[2], &Values::Float(vec![0.0; 2]));
            r.regions[0].operands[0].fill = Some(two);
        });
    }

    #[test]
    fn r3_anchors_take_their_operands() {
        check("R3", |r| r.regions[0].operands.truncate(1));
        check("R3", |r| {
            let op = Op::from(Softmax { axis: 7 });
            r.regions[0].anchor = Anchor::Op { op, operands: 1 };
        });
        check("R3", |r| {
            r.regions[1].anchor = Anchor::MergeMoments {
                groups: 4,
                epsilon: 0.1,
                count: 20,
            };
        });
    }

    #[test]
    fn r4_nodes_read_what_is_there() {
        let nodes = |r: &mut Regions, nodes: Vec<Node>| r.regions[0].outputs[0].nodes = nodes;
        let anchor = || Node::Anchor(Index::identity(&[2, 6, 4, 5]));
        check("R4", |r| nodes(r, vec![Node::Read(1)]));
        check("R4", |r| nodes(r, vec![Node::Read(2)]));
        check("R4", |r| {
            nodes(r, vec![anchor(), Node::Apply(Add.into(), vec![0, 1])])
        });
        check("R4", |r| {
            nodes(r, vec![Node::Anchor(Index::identity(&[2, 6, 4]))])
        });
        check("R4", |r| {
            nodes(
                r,
                vec![Node::Anchor(
                    Index::identity(&[2, 7, 4, 5]).into_iter().rev().collect(),
                )],
            )
        });
        check("R4", |r| r.regions[2].outputs[0].nodes[0] = anchor());
    }

    #[test]
    fn r5_nodes_are_pointwise_and_well_typed() {
        let push = |r: &mut Regions, node: Node| r.regions[0].outputs[0].nodes.push(node);
        let softmax = || Op::from(Softmax { axis: 1 });
        check("R5", |r| push(r, Node::Apply(softmax(), vec![0])));
        check("R5", |r| push(r, Node::Apply(Add.into(), vec![0])));
        check("R5", |r| {
            push(
                r,
                Node::Scalar(Tensor::from_values(
                    DType::F16,
                    &[],
                    &Values::Float(vec![0.0]),
                )),
            );
        });
        check("R5", |r| {
            push(
                r,
                Node::Scalar(Tensor::from_values(
                    DType::F32,
                    &[1],
                    &Values::Float(vec![0.0]),
                )),
            );
        });
        check("R5", |r| r.regions[0].outputs[0].nodes.clear());
    }

    #[test]
    fn r6_every_element_is_stored_at_its_place() {
        let store = |r: &mut Regions, axis: usize, index: Index| {
            r.regions[0].outputs[0].store[axis] = index;
        };
        check("R6", |r| store(r, 2, Index::constant(0)));
        check("R6", |r| store(r, 1, Index::axis(2)));
        check("R6", |r| store(r, 3, Index::axis(1)));
    }

    #[test]
    fn r7_buffers_are_stored_once_and_before_they_are_read() {
        check("R7", |r| r.regions.swap(0, 1));
        check("R7", |r| r.regions.push(r.regions[0].clone()));
        check("R7", |r| drop(r.regions.pop()));
    }

    #[test]
    fn r8_orders_name_each_axis() {
        let order = |r: &mut Regions, buffer: Buffer, order: &[usize]| {
            r.buffers[buffer.0 as usize].order = order.to_vec();
        };
        let stored = |r: &Regions| r.regions[0].outputs[0].buffer;
        check("R8", |r| order(r, stored(r), &[0, 1, 2]));
        check("R8", |r| order(r, stored(r), &[0, 1, 1, 3]));
        check("R8", |r| order(r, r.results[0].1, &[0, 2, 3, 1]));
        check("R8", |r| order(r, Buffer(0), &[0, 2, 3, 1]));
    }

    #[test]
    fn r9_moments_are_of_images_and_channels() {
        let extents = |r: &mut Regions, dtype: DType, shape: &[usize]| {
            let moments = r.regions[0].outputs[0]
                .moments
                .expect("the norm reads them");
            let shape = shape.to_vec();
            r.buffers[moments.0 as usize].extents = Extents { dtype, shape };
        };
        check("R9", |r| extents(r, DType::F32, &[2, 6, 3]));
        check("R9", |r| extents(r, DType::F32, &[2, 2, 2]));
        check("R9", |r| extents(r, DType::F16, &[2, 6, 2]));
    }
}
