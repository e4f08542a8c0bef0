//! `f(x) … f(x)` → one node. Every operator is a function of its operands.

use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    match editor.find(site.op, site.operands) {
        Some(value) => Edit::of(value, format!("equal to {value}")),
        None => Err(NoMatch),
    }
}
