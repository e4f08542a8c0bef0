//! `pad(x)` by nothing → `x`.

use crate::passes::editor::{Edit, Editor, Outcome, Site};
use crate::passes::matching::site_as;

pub(super) fn apply(site: &Site<'_>, _editor: &mut Editor) -> Outcome {
    match site_as!(site, Pad) {
        Some((pad, operands)) if pad.before.iter().chain(&pad.after).all(|&width| width == 0) => {
            Edit::some(operands[0], "pads by nothing")
        }
        Some(_) | None => Ok(None),
    }
}
