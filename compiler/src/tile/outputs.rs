//! How a block program stores: the epilogue's operands and the walk of each output, as views.
//!
//! Takes a region and where the elements of its anchor lie in a program's axes, returns views over
//! these axes. It refuses what is not element by element.

use crate::region::access::Step;
use crate::region::{Bound, Index, Node, Region};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};

/// One output of a region in the coordinates of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputViews {
    /// The column of the anchor that is the output's first.
    pub first_column: usize,
    /// How many columns it has.
    pub columns: usize,
    /// For each node of the epilogue that reads the anchor, the plane that it reads.
    pub planes: Vec<Option<usize>>,
    /// For each node of the epilogue that reads an operand, how.
    pub reads: Vec<Option<View>>,
    /// Where elements are stored; nowhere outside of its pieces.
    pub store: View,
}

/// An index in an anchor's result, and the bounds that it keeps.
pub(super) type Walk = (Vec<Index>, Vec<Bound>);

/// Where the elements of an anchor's result lie.
pub(super) struct Domain<'a> {
    /// The axes of the program's result.
    pub(super) axes: Axes,
    /// The axis of the anchor's result that the columns are, if they are one.
    pub(super) column: Option<usize>,
    /// The index in the anchor's result, and bounds where some lie outside.
    pub(super) index: &'a dyn Fn(&Axes) -> Walk,
    /// Channels of a group, where elements of an operand meet two numbers of their group's: then
    /// each number is a plane, and the index is one in the operand.
    pub(super) share: Option<usize>,
}

impl<'a> Domain<'a> {
    /// A result whose elements are at `index` of its axes.
    pub(super) fn new(
        axes: Axes,
        column: Option<usize>,
        index: &'a dyn Fn(&Axes) -> Walk,
    ) -> Domain<'a> {
        Domain {
            axes,
            column,
            index,
            share: None,
        }
    }

    /// A result whose axes are those of the program.
    pub(super) fn identity(axes: Axes, column: Option<usize>) -> Domain<'a> {
        Domain::new(axes, column, &|axes| (axes.walk(), Vec::new()))
    }
}

/// The offsets on the column axis at which the outputs of a region read the anchor.
///
/// # Errors
/// With the reason, when one reads it in another order.
fn offsets(region: &Region, column: Option<usize>) -> Result<Vec<Vec<usize>>, String> {
    let of_output = |output: &crate::region::Output| {
        let identity = Index::identity(&output.domain);
        let mut found = Vec::new();
        for node in &output.nodes {
            let Node::Anchor(index) = node else { continue };
            let mut offset = 0;
            for (axis, index) in index.iter().enumerate() {
                let own = &identity[axis];
                let distance = match column == Some(axis) {
                    true => index.at(&vec![0; output.domain.len()]),
                    false => 0,
                };
                if *index != own.clone().plus(distance) || distance < 0 {
                    return Err("the epilogue reads the anchor in another order".to_owned());
                }
                offset += distance as usize;
            }
            found.push(offset);
        }
        Ok(found)
    };
    region.outputs.iter().map(of_output).collect()
}

/// Whether epilogues are on the elements of groups, each of which meets numbers of its group, not
/// on the numbers themselves.
pub(super) fn is_on_elements(region: &Region) -> bool {
    let mut nodes = region.outputs.iter().flat_map(|output| &output.nodes);
    let constant = |index: &[Index]| index.last().is_some_and(|own| own.as_constant().is_some());
    nodes.any(|node| matches!(node, Node::Anchor(index) if constant(index)))
}

/// The numbers of its group's statistics that an epilogue on the elements of a group reads.
///
/// # Errors
/// With the reason, when it reads anything else.
fn numbers(region: &Region, share: usize) -> Result<Vec<Vec<usize>>, String> {
    let of_output = |output: &crate::region::Output| {
        let of_node = |node: &Node| {
            let Node::Anchor(index) = node else {
                return None;
            };
            let number = index.get(2).and_then(Index::as_constant).unwrap_or(-1);
            let reads = *index == Step::group(&output.domain, share, number).index;
            let other = "the epilogue reads other numbers than its group's".to_owned();
            Some(usize::try_from(number).ok().filter(|_| reads).ok_or(other))
        };
        output.nodes.iter().filter_map(of_node).collect()
    };
    region.outputs.iter().map(of_output).collect()
}

/// How many columns of the anchor an epilogue reads side by side: 2 for GEGLU, else 1.
pub(super) fn pairing(region: &Region, column: usize) -> Result<usize, String> {
    let offsets = offsets(region, Some(column))?;
    let [single] = offsets.as_slice() else {
        return Ok(1);
    };
    let columns = region.outputs[0].domain[column];
    let planes = single
        .iter()
        .map(|offset| offset.checked_div(columns).unwrap_or(0) + 1);
    Ok(planes.max().unwrap_or(1))
}

/// The views of all outputs.
///
/// # Errors
/// With the reason, when an epilogue does not read the anchor element by element.
pub(super) fn outputs(
    region: RegionRef<'_>,
    domain: &Domain<'_>,
    planes: usize,
) -> Result<Vec<OutputViews>, String> {
    let offsets = match domain.share {
        Some(share) => numbers(&region, share)?,
        None => offsets(&region, domain.column)?,
    };
    let mut found = Vec::with_capacity(region.outputs.len());
    for (output, offsets) in region.outputs.iter().zip(offsets) {
        let mut axes = domain.axes.clone();
        if let Some(column) = domain.column {
            axes.columns = vec![output.domain[column]];
        }
        let columns: usize = axes.columns.iter().product();
        let first_column = match planes {
            1 if domain.share.is_none() => offsets.first().copied().unwrap_or(0),
            _ => 0,
        };
        let plane = |offset: usize| match planes {
            _ if domain.share.is_some() => Ok(offset),
            1 if offset == first_column => Ok(0),
            1 => Err("columns of the anchor are read more than once".to_owned()),
            _ if offset.is_multiple_of(columns.max(1)) => Ok(offset / columns.max(1)),
            _ => Err("halves of the columns overlap".to_owned()),
        };
        let (index, bounds) = (domain.index)(&axes);
        let mut own = OutputViews {
            first_column,
            columns,
            planes: vec![None; output.nodes.len()],
            reads: vec![None; output.nodes.len()],
            store: View::store(
                (
                    output.buffer,
                    region.regions.buffer(output.buffer).extents.dtype,
                ),
                (&output.store, &output.domain),
                &axes,
                index.clone(),
                bounds.clone(),
            ),
        };
        let mut offsets = offsets.into_iter();
        for (number, node) in output.nodes.iter().enumerate() {
            match node {
                Node::Anchor(_) => {
                    own.planes[number] = offsets.next().map(plane).transpose()?;
                }
                Node::Read(operand) => {
                    let access = &region.operands[*operand];
                    let (index, bounds) = (index.clone(), bounds.clone());
                    own.reads[number] = Some(View::read(access, &axes, index, bounds));
                }
                Node::Scalar(_) | Node::Apply(..) => {}
            }
        }
        found.push(own);
    }
    Ok(found)
}
