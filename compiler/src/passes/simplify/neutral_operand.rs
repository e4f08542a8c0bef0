//! `x + 0`, `x − 0`, `x · 1`, `x / 1`, `x¹`, `max(x, −∞)`, `min(x, ∞)`, `x ∧ true`, `x ∨ false` →
//! `x`.
//!
//! Of floats only `−0` is neutral to addition: `−0 + 0` is `+0`.

use crate::ops::Op;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{number, with_number};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let float = site.ty.dtype.is_float();
    let right = || Some((site.operands[0], number(editor, site.operands[1])?));
    let commuted = || with_number(editor, site.operands);
    let (found, neutral) = match site.op {
        Op::Add(_) => (commuted(), if float { -0.0 } else { 0.0 }),
        Op::Sub(_) => (right(), 0.0),
        Op::Mul(_) | Op::And(_) => (commuted(), 1.0),
        Op::Or(_) => (commuted(), 0.0),
        Op::Div(_) | Op::Pow(_) => (right(), 1.0),
        Op::Max(_) if float => (commuted(), f64::NEG_INFINITY),
        Op::Min(_) if float => (commuted(), f64::INFINITY),
        _ => return Err(NoMatch),
    };
    let (x, value) = found.ok_or(NoMatch)?;
    if value.to_bits() != f64::to_bits(neutral) {
        return Err(NoMatch);
    }
    let result = editor.stretched(x, &site.ty.shape)?;
    Edit::of(result, format!("{neutral:?} does not change {x}"))
}
