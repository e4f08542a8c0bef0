//! `(x − mean x) / √(mean (x − mean x)² + ε)` over trailing axes → `layer_norm(x)`.
//!
//! The square is a product or a power; the root is a root or a power of ½, its quotient a
//! division or a product with the reciprocal. Scale and bias are taken by `norm_affine`.

use crate::graph::Value;
use crate::ops::LayerNorm;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{either_way, node_as, number, site_as, with_number};

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (centred, variance, epsilon) = quotient(site, editor).ok_or(NoMatch)?;
    let (x, axes) = centre(editor, centred).ok_or(NoMatch)?;
    let (squares, of) = mean(editor, variance).ok_or(NoMatch)?;
    let trailing = editor.ty(x).rank() - axes.len()..editor.ty(x).rank();
    if squares != axes || !is_square(editor, of, centred) || !axes.iter().copied().eq(trailing) {
        return Err(NoMatch);
    }
    let axes = axes.len();
    let result = editor.push(LayerNorm { axes, epsilon }, &[x])?;
    Edit::of(result, format!("{x} without its mean, over its deviation"))
}

/// Numerator, variance and epsilon of `d / √(v + ε)`.
fn quotient(site: &Site<'_>, editor: &Editor) -> Option<(Value, Value, f64)> {
    let pairs: Vec<(Value, Value)> = match (site_as!(site, Div), site_as!(site, Mul)) {
        (Some((_, operands)), _) => {
            let root = root(editor, operands[1], 0.5)?;
            vec![(operands[0], root)]
        }
        (None, Some((_, operands))) => either_way(operands)
            .into_iter()
            .filter_map(|(numerator, inverse)| Some((numerator, inverse_root(editor, inverse)?)))
            .collect(),
        (None, None) => return None,
    };
    pairs.into_iter().find_map(|(numerator, sum)| {
        let (_, terms) = node_as!(editor, sum, Add)?;
        let (variance, epsilon) = with_number(editor, terms)?;
        (epsilon > 0.0 && epsilon.is_finite()).then_some((numerator, variance, epsilon))
    })
}

/// What `value` is the square root of, or the power `exponent`.
fn root(editor: &Editor, value: Value, exponent: f64) -> Option<Value> {
    let sqrt = node_as!(editor, value, Sqrt).filter(|_| exponent == 0.5);
    if let Some((_, inner)) = sqrt {
        return Some(inner[0]);
    }
    let (_, operands) = node_as!(editor, value, Pow)?;
    (number(editor, operands[1]) == Some(exponent)).then_some(operands[0])
}

/// What `value` is one over the square root of.
fn inverse_root(editor: &Editor, value: Value) -> Option<Value> {
    if let Some((_, inner)) = node_as!(editor, value, Reciprocal) {
        return root(editor, inner[0], 0.5);
    }
    if let Some((_, operands)) = node_as!(editor, value, Div) {
        return match number(editor, operands[0]) == Some(1.0) {
            true => root(editor, operands[1], 0.5),
            false => None,
        };
    }
    root(editor, value, -0.5)
}

/// `x` and the axes of `x − mean(x)`.
fn centre(editor: &Editor, value: Value) -> Option<(Value, Vec<usize>)> {
    let (_, operands) = node_as!(editor, value, Sub)?;
    let (axes, of) = mean(editor, operands[1])?;
    (of == operands[0]).then_some((of, axes))
}

/// The axes and the operand of a mean that keeps its axes.
fn mean(editor: &Editor, value: Value) -> Option<(Vec<usize>, Value)> {
    let (mean, operands) = node_as!(editor, value, ReduceMean)?;
    (mean.keep && !mean.axes.is_empty()).then(|| (mean.axes.clone(), operands[0]))
}

fn is_square(editor: &Editor, value: Value, of: Value) -> bool {
    let power = node_as!(editor, value, Pow)
        .is_some_and(|(_, operands)| operands[0] == of && number(editor, operands[1]) == Some(2.0));
    power || node_as!(editor, value, Mul).is_some_and(|(_, operands)| operands == [of, of])
}
