//! A normalisation of `[batch, groups, …]` between two reshapes → `group_norm` of what was
//! reshaped: the spelling of PyTorch's exporter, by way of InstanceNormalization.

use crate::graph::Value;
use crate::ops::GroupNorm;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, site_as};
use crate::value::dim::Dim;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Reshape).ok_or(NoMatch)?;
    let (grouped, epsilon) = normalised(editor, operands[0]).ok_or(NoMatch)?;
    let (_, inner) = node_as!(editor, grouped, Reshape).ok_or(NoMatch)?;
    let source = inner[0];
    let (shape, inner_shape) = (&site.ty.shape, &editor.ty(grouped).shape);
    let (Some(batch), Some(groups)) = (shape.first(), inner_shape[1].extent()) else {
        return Err(NoMatch);
    };
    let divides = |channels: &Dim| channels.exact_div(&inner_shape[1]).is_some();
    let fits = *batch == inner_shape[0] && shape.get(1).is_some_and(divides);
    if !fits || groups == 0 || !editor.used_once(operands[0]) {
        return Err(NoMatch);
    }
    let x = editor.reshaped(source, shape)?;
    let result = editor.push(GroupNorm { groups, epsilon }, &[x])?;
    Edit::of(result, format!("normalises {groups} groups of {x}"))
}

/// The operand and epsilon of a normalisation, without scale and bias, of each row of
/// `[batch, groups, …]`.
fn normalised(editor: &Editor, value: Value) -> Option<(Value, f64)> {
    if let Some((norm, operands)) = node_as!(editor, value, GroupNorm) {
        let channels = &editor.ty(operands[0]).shape[1];
        let rows = channels.is(i64::try_from(norm.groups).ok()?);
        return (rows && operands.len() == 1).then_some((operands[0], norm.epsilon));
    }
    let (norm, operands) = node_as!(editor, value, LayerNorm)?;
    let rows = editor.ty(operands[0]).rank() == norm.axes + 2;
    (rows && operands.len() == 1).then_some((operands[0], norm.epsilon))
}
