//! A transpose that moves nothing → its operand; one that moves only extents of 1 → a reshape;
//! a transpose of a transpose → one.

use crate::ops::{Reshape, Transpose};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (Transpose { permutation }, operands) = site_as!(site, Transpose).ok_or(NoMatch)?;
    let x = operands[0];
    if permutation.is_sorted() {
        return Edit::of(x, "moves no axis");
    }
    if let Some((inner, sources)) = node_as!(editor, x, Transpose) {
        let composed = permutation.iter().map(|&axis| inner.permutation[axis]);
        let permutation = composed.collect();
        let source = sources[0];
        let result = editor.push(Transpose { permutation }, &[source])?;
        return Edit::of(result, format!("{x} is a transpose itself"));
    }
    let shape = &editor.ty(x).shape;
    let wide = permutation.iter().filter(|&&axis| !shape[axis].is(1));
    if wide.is_sorted() {
        let shape = site.ty.shape.clone();
        let result = editor.push(Reshape { shape }, &[x])?;
        return Edit::of(result, "moves extents of 1 only");
    }
    Err(NoMatch)
}
