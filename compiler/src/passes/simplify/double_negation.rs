//! `−(−x)` → `x`, `¬¬x` → `x`.

use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let neg = site_as!(site, Neg).and_then(|(_, outer)| node_as!(editor, outer[0], Neg));
    let not = site_as!(site, Not).and_then(|(_, outer)| node_as!(editor, outer[0], Not));
    let inner = neg.map(|(_, inner)| inner[0]);
    match inner.or(not.map(|(_, inner)| inner[0])) {
        Some(x) => Edit::of(x, "negated twice"),
        None => Err(NoMatch),
    }
}
