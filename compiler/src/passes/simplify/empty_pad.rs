//! `pad(x)` by nothing → `x`.

use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::site_as;

pub(super) fn apply(site: &Site<'_>, _editor: &mut Editor) -> Outcome {
    match site_as!(site, Pad) {
        Some((pad, operands)) if pad.before.iter().chain(&pad.after).all(|&width| width == 0) => {
            Edit::of(operands[0], "pads by nothing")
        }
        Some(_) | None => Err(NoMatch),
    }
}
