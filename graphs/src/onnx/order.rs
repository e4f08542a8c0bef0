//! The order in which the nodes of a body are imported.
//!
//! Takes the nodes of a graph, a branch or a function in any order, returns them with every node
//! after those whose results it uses. Nodes that are in order stay where they are. It resolves no
//! names of outer bodies, and does not report names that nothing defines.

use std::collections::{BTreeMap, BTreeSet};

use super::proto::NodeProto;

/// Returns the nodes in topological order: of those that can come next, the first in the file.
///
/// # Errors
/// The nodes of a cycle, each of which uses a result of the next, and the last one of the first.
pub(crate) fn sort(nodes: &[NodeProto]) -> Result<Vec<&NodeProto>, Vec<&NodeProto>> {
    let mut producers: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            producers.entry(output).or_insert(index);
        }
    }
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    // What each node still waits for.
    let mut pending: Vec<BTreeSet<usize>> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let names = used(node);
        let from: BTreeSet<usize> = names
            .iter()
            .filter_map(|n| producers.get(n).copied())
            .collect();
        from.iter()
            .for_each(|&producer| users[producer].push(index));
        pending.push(from);
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len())
        .filter(|&i| pending[i].is_empty())
        .collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(&nodes[index]);
        for &user in &users[index] {
            pending[user].remove(&index);
            if pending[user].is_empty() {
                ready.insert(user);
            }
        }
    }
    match order.len() == nodes.len() {
        true => Ok(order),
        false => Err(cycle(&pending)
            .into_iter()
            .map(|index| &nodes[index])
            .collect()),
    }
}

/// The values that a node uses: its operands, and what its branches take from outside.
fn used(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node.input.iter().map(String::as_str).collect();
    for body in node
        .attribute
        .iter()
        .filter_map(|attribute| attribute.g.as_ref())
    {
        let mut inside: BTreeSet<&str> = body.node.iter().flat_map(used).collect();
        inside.extend(body.output.iter().map(|output| output.name.as_str()));
        let initializers = body.initializer.iter().map(|tensor| tensor.name.as_str());
        let inputs = body.input.iter().map(|input| input.name.as_str());
        let results = body.node.iter().flat_map(|node| &node.output);
        for defined in results
            .map(String::as_str)
            .chain(initializers)
            .chain(inputs)
        {
            inside.remove(defined);
        }
        names.extend(inside);
    }
    names
}

/// Follows nodes to what they wait for until one comes a second time.
fn cycle(pending: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut next = pending.iter().position(|from| !from.is_empty());
    while let Some(index) = next {
        if let Some(start) = path.iter().position(|&earlier| earlier == index) {
            return path.split_off(start);
        }
        path.push(index);
        next = pending[index].first().copied();
    }
    path
}
