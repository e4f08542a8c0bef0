//! `x · sigmoid(x)` → `silu(x)`.

use crate::ops::Silu;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Mul).ok_or(NoMatch)?;
    for (x, gate) in either_way(operands) {
        if node_as!(editor, gate, Sigmoid).is_some_and(|(_, inner)| inner[0] == x) {
            let result = editor.push(Silu, &[x])?;
            return Edit::of(result, format!("{x} times its sigmoid"));
        }
    }
    Err(NoMatch)
}
