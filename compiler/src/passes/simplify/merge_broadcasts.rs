//! `broadcast(x)` to its own shape → `x`; a broadcast of a broadcast → one.

use crate::ops::Broadcast;
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((Broadcast { shape }, operands)) = site_as!(site, Broadcast) else {
        return Ok(None);
    };
    let x = operands[0];
    if editor.ty(x).shape == *shape {
        return Edit::some(x, format!("{x} has that shape already"));
    }
    let Some((_, inner)) = node_as!(editor, x, Broadcast) else {
        return Ok(None);
    };
    let (source, shape) = (inner[0], shape.clone());
    let result = editor.push(Broadcast { shape }, &[source])?;
    Edit::some(result, format!("{x} is a broadcast itself"))
}
