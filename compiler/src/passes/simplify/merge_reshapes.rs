//! `reshape(x)` to its own shape → `x`; a reshape of a reshape, or of one stretched element →
//! one node.

use crate::ops::{Broadcast, Reshape};
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((Reshape { shape }, operands)) = site_as!(site, Reshape) else {
        return Ok(None);
    };
    let (x, shape) = (operands[0], shape.clone());
    if editor.ty(x).shape == shape {
        return Edit::some(x, format!("{x} has that shape already"));
    }
    if let Some((_, inner)) = node_as!(editor, x, Reshape) {
        let source = inner[0];
        let result = match editor.ty(source).shape == shape {
            true => source,
            false => editor.push(Reshape { shape }, &[source])?,
        };
        return Edit::some(result, format!("{x} is a reshape itself"));
    }
    if let Some((_, inner)) = node_as!(editor, x, Broadcast) {
        let source = inner[0];
        if editor.ty(source).elements().is(1) {
            let none = Reshape { shape: Vec::new() };
            let scalar = editor.push(none, &[source])?;
            let result = editor.push(Broadcast { shape }, &[scalar])?;
            return Edit::some(result, format!("{x} is one element stretched"));
        }
    }
    Ok(None)
}
