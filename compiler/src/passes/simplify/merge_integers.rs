//! `(x + a) + b` → `x + (a + b)` and `(x · a) · b` → `x · (a · b)` for constant integers: sums
//! that wrap may be taken in any order, those of floats may not.

use crate::graph::Value;
use crate::ops::Op;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    if !matches!(site.op, Op::Add(_) | Op::Mul(_)) || !site.ty.dtype.is_int() {
        return Err(NoMatch);
    }
    let (inner, outer_constant) = with_constant(editor, site.operands).ok_or(NoMatch)?;
    let node = editor
        .node(inner)
        .filter(|node| node.op == *site.op)
        .ok_or(NoMatch)?;
    let (x, inner_constant) = with_constant(editor, &node.operands).ok_or(NoMatch)?;
    let merged = editor.push(site.op.clone(), &[inner_constant, outer_constant])?;
    let result = editor.push(site.op.clone(), &[x, merged])?;
    Edit::of(result, format!("{inner} has a constant operand too"))
}

/// The other operand and the constant one, if exactly one is.
fn with_constant(editor: &Editor, operands: &[Value]) -> Option<(Value, Value)> {
    let (a, b) = (operands[0], operands[1]);
    match (editor.constant(a).is_some(), editor.constant(b).is_some()) {
        (false, true) => Some((a, b)),
        (true, false) => Some((b, a)),
        (true, true) | (false, false) => None,
    }
}
