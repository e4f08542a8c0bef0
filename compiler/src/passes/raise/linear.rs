//! `x · wᵀ` → `linear(x, w)`, and a bias added to it → its operand.
//!
//! A right operand that is neither a transpose nor a constant stays: transposing a weight at
//! each call would cost more than the operator saves.

use crate::graph::Value;
use crate::ops::{Linear, Transpose};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, node_as, site_as, without_leading_ones};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Matmul).ok_or(NoMatch)?;
    let (x, right) = (operands[0], operands[1]);
    let is_weight = editor.ty(right).rank() == 2 && site.ty.dtype.is_float();
    let flipped = node_as!(editor, right, Transpose)
        .filter(|(transpose, _)| transpose.permutation == [1, 0])
        .map(|(_, source)| source[0]);
    let w = match (is_weight, flipped) {
        (true, Some(source)) => source,
        (true, None) if editor.constant(right).is_some() => transposed(editor, right)?,
        (_, _) => return Err(NoMatch),
    };
    let result = editor.push(Linear, &[x, w])?;
    Edit::of(result, format!("{right} is {w} transposed"))
}

fn transposed(editor: &mut Editor, value: Value) -> Result<Value, crate::graph::GraphError> {
    let permutation = vec![1, 0];
    editor.push(Transpose { permutation }, &[value])
}

/// `linear(x, w) + bias` → `linear(x, w, bias)`.
pub(super) fn bias(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Add).ok_or(NoMatch)?;
    for (linear, bias) in either_way(operands) {
        let Some((_, [x, w])) = node_as!(editor, linear, Linear) else {
            continue;
        };
        let (x, w) = (*x, *w);
        let shape = editor.ty(w).shape[..1].to_vec();
        let fits = without_leading_ones(&editor.ty(bias).shape) == without_leading_ones(&shape);
        if !fits || *editor.ty(linear) != *site.ty || !editor.used_once(linear) {
            continue;
        }
        let vector = editor.reshaped(bias, &shape)?;
        let result = editor.push(Linear, &[x, w, vector])?;
        return Edit::of(result, format!("{bias} is added to {linear}"));
    }
    Err(NoMatch)
}
