//! A sum, mean or maximum over extents of 1, or over no axis → a reshape.

use crate::ops::{Op, Reshape};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let axes = match site.op {
        Op::ReduceSum(reduce) => &reduce.axes,
        Op::ReduceMean(reduce) => &reduce.axes,
        Op::ReduceMax(reduce) => &reduce.axes,
        _ => return Err(NoMatch),
    };
    let x = site.operands[0];
    if !axes.iter().all(|&axis| editor.ty(x).shape[axis].is(1)) {
        return Err(NoMatch);
    }
    let shape = site.ty.shape.clone();
    let result = editor.push(Reshape { shape }, &[x])?;
    Edit::of(result, "reduces extents of 1")
}
