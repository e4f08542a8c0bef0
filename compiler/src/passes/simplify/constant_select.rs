//! `select(true, a, b)` → `a`, `select(false, a, b)` → `b`.

use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{number, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Select).ok_or(NoMatch)?;
    let condition = number(editor, operands[0]).ok_or(NoMatch)?;
    let chosen = operands[if condition != 0.0 { 1 } else { 2 }];
    let result = editor.stretched(chosen, &site.ty.shape)?;
    Edit::of(
        result,
        format!("the condition is always {}", condition != 0.0),
    )
}
