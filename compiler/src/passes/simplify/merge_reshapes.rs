//! `reshape(x)` to its own shape → `x`; a reshape of a reshape, or of one stretched element →
//! one node.

use crate::ops::{Broadcast, Reshape};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (Reshape { shape }, operands) = site_as!(site, Reshape).ok_or(NoMatch)?;
    let (x, shape) = (operands[0], shape.clone());
    if editor.ty(x).shape == shape {
        return Edit::of(x, format!("{x} has that shape already"));
    }
    if let Some((_, inner)) = node_as!(editor, x, Reshape) {
        let source = inner[0];
        let result = editor.reshaped(source, &shape)?;
        return Edit::of(result, format!("{x} is a reshape itself"));
    }
    if let Some((_, inner)) = node_as!(editor, x, Broadcast) {
        let source = inner[0];
        if editor.ty(source).elements().is(1) {
            let none = Reshape { shape: Vec::new() };
            let scalar = editor.push(none, &[source])?;
            let result = editor.push(Broadcast { shape }, &[scalar])?;
            return Edit::of(result, format!("{x} is one element stretched"));
        }
    }
    Err(NoMatch)
}
