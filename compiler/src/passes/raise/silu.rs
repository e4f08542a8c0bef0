//! `x · sigmoid(x)` → `silu(x)`.

use crate::ops::Silu;
use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::{either_way, node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let Some((_, operands)) = site_as!(site, Mul) else {
        return Ok(None);
    };
    for (x, gate) in either_way(operands) {
        if node_as!(editor, gate, Sigmoid).is_some_and(|(_, inner)| inner[0] == x) {
            let result = editor.push(Silu, &[x])?;
            return Edit::some(result, format!("{x} times its sigmoid"));
        }
    }
    Ok(None)
}
