//! A slice that lies in one operand of a concatenation → a slice of that operand.

use crate::graph::Value;
use crate::ops::Slice;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (slice, operands) = site_as!(site, Slice).ok_or(NoMatch)?;
    let (concat, parts) = node_as!(editor, operands[0], Concat).ok_or(NoMatch)?;
    if concat.axis != slice.axis || slice.step != 1 {
        return Err(NoMatch);
    }
    let mut offset = Dim::from(0);
    let mut found: Option<(Value, Dim)> = None;
    for &part in parts {
        let extent = &editor.ty(part).shape[slice.axis];
        let start = slice.start.sub(&offset);
        let whole = start.is(0) && slice.length == *extent;
        if whole || lies_in(&start, &slice.length, extent) {
            found = Some((part, start));
            break;
        }
        offset = offset.add(extent);
    }
    let (part, start) = found.ok_or(NoMatch)?;
    let narrowed = Slice::new(slice.axis, start, slice.length.clone());
    let result = editor.push(narrowed, &[part])?;
    Edit::of(result, format!("lies in {part}"))
}

fn lies_in(start: &Dim, length: &Dim, extent: &Dim) -> bool {
    match (start.known(), length.known(), extent.known()) {
        (Some(start), Some(length), Some(extent)) => {
            start >= 0 && length > 0 && start.saturating_add(length) <= extent
        }
        (_, _, _) => false,
    }
}
