//! A cast up, an operator that computes widely in any case, and a cast back → the operator.
//!
//! Exporters of f16 models compute norms, softmax and activations in f32; every backend
//! accumulates in f32, so that only the rounding between disappears.

use crate::graph::Value;
use crate::ops::Op;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{contains, node_as, site_as};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (cast, operands) = site_as!(site, Cast).ok_or(NoMatch)?;
    let (narrow, wide) = (cast.dtype, editor.ty(operands[0]).dtype);
    let widens = narrow != wide && narrow.is_float() && wide.is_float() && contains(wide, narrow);
    let node = editor.node(operands[0]).filter(|_| widens).ok_or(NoMatch)?;
    if !computes_widely(&node.op) || !editor.used_once(operands[0]) {
        return Err(NoMatch);
    }
    let source = |&value: &Value| {
        let (_, source) = node_as!(editor, value, Cast)?;
        (editor.ty(source[0]).dtype == narrow).then_some(source[0])
    };
    let sources: Option<Vec<Value>> = node.operands.iter().map(source).collect();
    let sources = sources.ok_or(NoMatch)?;
    let op = node.op.clone();
    let result = editor.push(op, &sources)?;
    Edit::of(result, format!("its operands are {narrow}"))
}

fn computes_widely(op: &Op) -> bool {
    matches!(
        op,
        Op::Attention(_)
            | Op::Geglu(_)
            | Op::Gelu(_)
            | Op::GroupNorm(_)
            | Op::LayerNorm(_)
            | Op::Sigmoid(_)
            | Op::Silu(_)
            | Op::Softmax(_)
    )
}
