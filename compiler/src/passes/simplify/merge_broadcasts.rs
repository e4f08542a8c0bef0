//! `broadcast(x)` to its own shape → `x`; a broadcast of a broadcast → one.

use crate::ops::Broadcast;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (Broadcast { shape }, operands) = site_as!(site, Broadcast).ok_or(NoMatch)?;
    let x = operands[0];
    if editor.ty(x).shape == *shape {
        return Edit::of(x, format!("{x} has that shape already"));
    }
    let (_, inner) = node_as!(editor, x, Broadcast).ok_or(NoMatch)?;
    let (source, shape) = (inner[0], shape.clone());
    let result = editor.push(Broadcast { shape }, &[source])?;
    Edit::of(result, format!("{x} is a broadcast itself"))
}
