//! `select(true, a, b)` → `a`, `select(false, a, b)` → `b`.

use crate::ops::Broadcast;
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{number, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((_, operands)) = site_as!(site, Select) else {
        return Ok(None);
    };
    let Some(condition) = number(editor, operands[0]) else {
        return Ok(None);
    };
    let chosen = operands[if condition != 0.0 { 1 } else { 2 }];
    let result = match *editor.ty(chosen) == *site.ty {
        true => chosen,
        false => {
            let shape = site.ty.shape.clone();
            editor.push(Broadcast { shape }, &[chosen])?
        }
    };
    Edit::some(
        result,
        format!("the condition is always {}", condition != 0.0),
    )
}
