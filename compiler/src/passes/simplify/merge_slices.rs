//! A slice of everything → its operand; a slice of a slice along the same axis → one.

use crate::ops::Slice;
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((slice, operands)) = site_as!(site, Slice) else {
        return Ok(None);
    };
    let x = operands[0];
    let extent = &editor.ty(x).shape[slice.axis];
    if slice.start.is(0) && slice.step == 1 && slice.length == *extent {
        return Edit::some(x, format!("takes all of {x}"));
    }
    let Some((inner, sources)) = node_as!(editor, x, Slice) else {
        return Ok(None);
    };
    let Some(step) = inner.step.checked_mul(slice.step) else {
        return Ok(None);
    };
    if inner.axis != slice.axis {
        return Ok(None);
    }
    let merged = Slice {
        axis: slice.axis,
        start: inner.start.add(&slice.start.mul(&Dim::from(inner.step))),
        length: slice.length.clone(),
        step,
    };
    let source = sources[0];
    let result = editor.push(merged, &[source])?;
    Edit::some(result, format!("{x} is a slice itself"))
}
