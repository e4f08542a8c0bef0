//! Axes multiplied together, moved, and split again → moved one by one: exporters flatten heads
//! into the batch to swap the other two axes.

use crate::ops::Transpose;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (split, operands) = site_as!(site, Reshape).ok_or(NoMatch)?;
    let (transpose, moved) = node_as!(editor, operands[0], Transpose).ok_or(NoMatch)?;
    let (merge, sources) = node_as!(editor, moved[0], Reshape).ok_or(NoMatch)?;
    let shape = &editor.ty(sources[0]).shape;
    let groups = merged(shape, &merge.shape).ok_or(NoMatch)?;
    let moved = transpose.permutation.iter().map(|&axis| &groups[axis]);
    let permutation: Vec<usize> = moved.flatten().copied().collect();
    if !permutation
        .iter()
        .map(|&axis| &shape[axis])
        .eq(&split.shape)
    {
        return Err(NoMatch);
    }
    let source = sources[0];
    let result = editor.push(Transpose { permutation }, &[source])?;
    Edit::of(result, format!("the axes of {source} are whole again"))
}

/// The axes of `from` that each axis of `to` is the product of, if every one is.
fn merged(from: &[Dim], to: &[Dim]) -> Option<Vec<Vec<usize>>> {
    let mut axes = (0..from.len()).peekable();
    let mut groups = Vec::with_capacity(to.len());
    for wanted in to {
        let mut group = vec![axes.next()?];
        let mut product = from[group[0]].clone();
        while product != *wanted {
            let axis = axes.next()?;
            product = product.mul(&from[axis]);
            group.push(axis);
        }
        groups.push(group);
    }
    axes.peek().is_none().then_some(groups)
}
