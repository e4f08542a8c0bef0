//! A slice of everything → its operand; a slice of a slice along the same axis → one.

use crate::ops::Slice;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (slice, operands) = site_as!(site, Slice).ok_or(NoMatch)?;
    let x = operands[0];
    let extent = &editor.ty(x).shape[slice.axis];
    if slice.start.is(0) && slice.step == 1 && slice.length == *extent {
        return Edit::of(x, format!("takes all of {x}"));
    }
    let (inner, sources) = node_as!(editor, x, Slice).ok_or(NoMatch)?;
    let step = inner.step.checked_mul(slice.step).ok_or(NoMatch)?;
    if inner.axis != slice.axis {
        return Err(NoMatch);
    }
    let merged = Slice {
        axis: slice.axis,
        start: inner.start.add(&slice.start.mul(&Dim::from(inner.step))),
        length: slice.length.clone(),
        step,
    };
    let source = sources[0];
    let result = editor.push(merged, &[source])?;
    Edit::of(result, format!("{x} is a slice itself"))
}
