//! The numbers of an epilogue's nodes: one way to write what it computes.
//!
//! Takes an epilogue, orders its nodes as the text form reads them: every leaf once, as it is first
//! read, then what applies operators, in the order in which it was made. What nobody reads goes.

use crate::region::{Node, Output};

/// Numbers the nodes of an output anew.
pub(super) fn number(output: &mut Output) {
    let nodes = std::mem::take(&mut output.nodes);
    let mut read = vec![false; nodes.len()];
    if let Some(last) = read.last_mut() {
        *last = true;
    }
    for (number, node) in nodes.iter().enumerate().rev() {
        if let (Node::Apply(_, operands), true) = (node, read[number]) {
            operands.iter().for_each(|&operand| read[operand] = true);
        }
    }
    let applied = |number: usize| matches!(nodes[number], Node::Apply(..)) && read[number];
    let mut leaves: Vec<Node> = Vec::new();
    let mut places = vec![0; nodes.len()];
    let used = nodes
        .iter()
        .enumerate()
        .flat_map(|(number, node)| match node {
            Node::Apply(_, operands) if read[number] => operands.clone(),
            // A leaf that is stored as it is.
            Node::Anchor(_) | Node::Read(_) | Node::Scalar(_) if number + 1 == nodes.len() => {
                vec![number]
            }
            Node::Apply(..) | Node::Anchor(_) | Node::Read(_) | Node::Scalar(_) => Vec::new(),
        });
    for number in used.filter(|&number| !applied(number)) {
        let known = leaves.iter().position(|leaf| *leaf == nodes[number]);
        places[number] = known.unwrap_or_else(|| {
            leaves.push(nodes[number].clone());
            leaves.len() - 1
        });
    }
    let mut numbered = leaves;
    for (number, node) in nodes.iter().enumerate() {
        if let (Node::Apply(op, operands), true) = (node, read[number]) {
            places[number] = numbered.len();
            let operands = operands.iter().map(|&operand| places[operand]);
            numbered.push(Node::Apply(op.clone(), operands.collect()));
        }
    }
    output.nodes = numbered;
}
