//! `concat(x)` → `x`.

use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::site_as;

pub(super) fn apply(site: &Site<'_>, _editor: &mut Editor) -> Outcome {
    match site_as!(site, Concat) {
        Some((_, [x])) => Edit::of(*x, "joins one operand"),
        Some(_) | None => Err(NoMatch),
    }
}
