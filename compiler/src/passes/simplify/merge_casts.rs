//! `cast(x)` to its own type → `x`; a cast after one that loses nothing → one cast.

use crate::ops::Cast;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{contains, node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (&Cast { dtype }, operands) = site_as!(site, Cast).ok_or(NoMatch)?;
    let x = operands[0];
    if editor.ty(x).dtype == dtype {
        return Edit::of(x, format!("{x} is {dtype} already"));
    }
    let (_, inner) = node_as!(editor, x, Cast).ok_or(NoMatch)?;
    let source = inner[0];
    let (from, through) = (editor.ty(source).dtype, editor.ty(x).dtype);
    if !contains(through, from) {
        return Err(NoMatch);
    }
    let result = editor.push(Cast { dtype }, &[source])?;
    Edit::of(result, format!("{through} holds every {from}"))
}
