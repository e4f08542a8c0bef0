//! `cast(x)` to its own type → `x`; a cast after one that loses nothing → one cast.

use crate::ops::Cast;
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{contains, node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((&Cast { dtype }, operands)) = site_as!(site, Cast) else {
        return Ok(None);
    };
    let x = operands[0];
    if editor.ty(x).dtype == dtype {
        return Edit::some(x, format!("{x} is {dtype} already"));
    }
    let Some((_, inner)) = node_as!(editor, x, Cast) else {
        return Ok(None);
    };
    let source = inner[0];
    let (from, through) = (editor.ty(source).dtype, editor.ty(x).dtype);
    if !contains(through, from) {
        return Ok(None);
    }
    let result = editor.push(Cast { dtype }, &[source])?;
    Edit::some(result, format!("{through} holds every {from}"))
}
