//! A pointwise operator on stretched single elements → the operator on the elements, stretched.

use crate::graph::Value;
use crate::ops::Broadcast;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::node_as;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    if !site.op.is_pointwise() || site.ty.elements().is(1) {
        return Err(NoMatch);
    }
    let single = |&value: &Value| {
        let source = node_as!(editor, value, Broadcast).map_or(value, |(_, source)| source[0]);
        editor.ty(source).elements().is(1).then_some(source)
    };
    let sources = site
        .operands
        .iter()
        .map(single)
        .collect::<Option<Vec<_>>>()
        .ok_or(NoMatch)?;
    let one = editor.push(site.op.clone(), &sources)?;
    let shape = site.ty.shape.clone();
    let result = editor.push(Broadcast { shape }, &[one])?;
    Edit::of(result, "its operands are single elements")
}
