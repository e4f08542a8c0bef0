//! Epilogues that are joined: nodes of one region appended to those of another.
//!
//! Takes nodes and what becomes of the operands that they read, returns where each node is now. It
//! decides nothing.

use crate::region::{Access, Node, Region};

/// What becomes of a node that reads an operand.
pub(super) enum Read {
    /// It reads this one.
    Operand(Access),
    /// It is an earlier node.
    Node(usize),
}

/// Appends `more` nodes, whose reads become what `read` says, to those of `region`; returns their
/// positions.
pub(super) fn append(
    region: &mut Region,
    nodes: &mut Vec<Node>,
    more: &[Node],
    read: impl Fn(usize) -> Read,
) -> Vec<usize> {
    let mut places: Vec<usize> = Vec::with_capacity(more.len());
    for node in more {
        let node = match node {
            Node::Read(operand) => match read(*operand) {
                Read::Operand(access) => Node::Read(append_operand(region, access)),
                Read::Node(place) => {
                    places.push(place);
                    continue;
                }
            },
            Node::Apply(op, operands) => {
                let operands = operands.iter().map(|&operand| places[operand]);
                Node::Apply(op.clone(), operands.collect())
            }
            Node::Anchor(_) | Node::Scalar(_) => node.clone(),
        };
        nodes.push(node);
        places.push(nodes.len() - 1);
    }
    places
}

/// Drops what comes behind the last of `places`: a copy of nothing but an earlier node is that
/// node.
pub(super) fn end_at(nodes: &mut Vec<Node>, places: &[usize]) {
    nodes.truncate(places.last().map_or(0, |place| place + 1));
}

/// The number of an operand of the epilogue, added unless it is there.
pub(super) fn append_operand(region: &mut Region, access: Access) -> usize {
    let first = region.anchor_operands();
    let found = region.operands[first..]
        .iter()
        .position(|other| *other == access);
    match found {
        Some(position) => first + position,
        None => {
            region.operands.push(access);
            region.operands.len() - 1
        }
    }
}
