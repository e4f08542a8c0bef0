//! The first half of the last axis times the GELU of the second → `geglu`.

use crate::graph::Value;
use crate::ops::{Geglu, GeluForm};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Mul).ok_or(NoMatch)?;
    for (value, gate) in either_way(operands) {
        let Some((gelu, inner)) = node_as!(editor, gate, Gelu) else {
            continue;
        };
        if gelu.form != GeluForm::Erf || !editor.used_once(gate) {
            continue;
        }
        let (first, second) = (half(editor, value), half(editor, inner[0]));
        if let (Some((x, 0)), Some((same, 1))) = (first, second)
            && x == same
        {
            let result = editor.push(Geglu, &[x])?;
            return Edit::of(result, format!("gates one half of {x} with the other"));
        }
    }
    Err(NoMatch)
}

/// What `value` is a half of, along the last axis, and which.
fn half(editor: &Editor, value: Value) -> Option<(Value, usize)> {
    let (slice, operands) = node_as!(editor, value, Slice)?;
    let x = operands[0];
    let shape = &editor.ty(x).shape;
    let whole = slice.length.mul(&Dim::from(2));
    let halves = slice.axis + 1 == shape.len() && slice.step == 1 && whole == shape[slice.axis];
    match (halves, slice.start.is(0), slice.start == slice.length) {
        (true, true, false) => Some((x, 0)),
        (true, false, true) => Some((x, 1)),
        (_, _, _) => None,
    }
}
