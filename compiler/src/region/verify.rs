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
use std::fmt;

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

/// Requires that a rule holds; formats `found` only where it does not.
fn ensure(
    holds: bool,
    rule: &'static str,
    found: fmt::Arguments<'_>,
    wanted: &'static str,
) -> Result<(), Broken> {
    match holds {
        true => Ok(()),
        false => Err((rule, found.to_string(), wanted)),
    }
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

/// R1, R2, and R7 for buffers that do not exist.
fn check_access(regions: &Regions, access: &Access) -> Result<(), Broken> {
    for piece in &access.pieces {
        let buffer = regions.buffers.get(piece.buffer.0 as usize);
        let Some(BufferData { extents, .. }) = buffer else {
            let found = format!("{} read", piece.buffer);
            return Err(("R7", found, "buffers of the function"));
        };
        let Extents { dtype, shape } = extents;
        let found = format_args!("{} of {dtype} read as {}", piece.buffer, access.dtype);
        ensure(*dtype == access.dtype, "R2", found, "one element type")?;
        let found = format_args!("{} of {shape:?} read at {:?}", piece.buffer, piece.index);
        let within = piece.stays_within(&access.shape, shape);
        ensure(within, "R1", found, "an index within each of its extents")?;
    }
    let Some(fill) = &access.fill else {
        return Ok(());
    };
    let (count, dtype) = (fill.elements(), fill.dtype());
    let found = format_args!("a border of {count} elements of {dtype}");
    let holds = dtype == access.dtype && count == 1;
    ensure(holds, "R2", found, "one number of the element type")
}

/// R3; gives the type of what the anchor computes.
fn check_anchor(region: &Region) -> Result<Option<TensorType>, Broken> {
    let (found, wanted) = (region.operands.len(), region.anchor_operands());
    let operands = format_args!("{found} operands for an anchor of {wanted}");
    ensure(
        found >= wanted,
        "R3",
        operands,
        "all operands of the anchor",
    )?;
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
    let found = format_args!(
        "{:?} of {domain:?} in {} of {shape:?}",
        output.store, output.buffer
    );
    ensure(covers, "R6", found, "a place of its own for each element")
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
    let found = format_args!("moments {found:?} of {of:?}");
    ensure(fits, "R9", found, "two numbers for each image and channel")
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
        let found = format_args!("{} joined of {:?}", joined.whole, joined.parts);
        let wanted = "computed vectors that add up to one that nobody stores";
        ensure(fits, "R10", found, wanted)?;
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
mod tests;
