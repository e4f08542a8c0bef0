//! `softmax(scale · q kᵀ + mask) v` → `attention(q, k, v, mask)`.
//!
//! The scale may stand on the scores, on `q`, on `kᵀ`, or be split; heads are an axis or
//! multiplied into the batch, with reshapes between; the mask is added, or selects −∞. Nothing
//! on the way may be used elsewhere: weights that are a result stay as they are.

use crate::graph::{GraphError, Value};
use crate::ops::{Attention, Not, Op, Transpose};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, number, scaled, site_as, with_number};
use crate::value::dim::Dim;
use crate::value::tensor::Values;

/// Added to a score, this or less hides it: no other score makes up for it.
const HIDDEN: f64 = -1e4;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Matmul).ok_or(NoMatch)?;
    let (weights, v) = (operands[0], operands[1]);
    if !editor.used_once(weights) {
        return Err(NoMatch);
    }
    let mut found = softmax_operand(editor, weights)
        .and_then(|value| scores(editor, value))
        .ok_or(NoMatch)?;
    let (q, scale_q) = scaled(editor, found.q);
    if let (None, Some((_, source))) = (&found.heads, node_as!(editor, q, Reshape)) {
        found.heads = split_heads(editor, source[0], q).filter(|_| editor.ty(q).rank() == 3);
    }
    let (kt, scale_k) = unscaled_transpose(editor, found.kt)?;
    let k = swapped(editor, kt)?;
    let [q4, k4, v4] = four_axes(editor, &found, [q, k, v])?.ok_or(NoMatch)?;
    if !agree(editor, q4, k4, v4) {
        return Err(NoMatch);
    }
    let (mask, causal) = match found.mask {
        Some(mask) if is_causal(editor, &mask, q4, k4) => (None, true),
        Some(mask) => match mask_operand(editor, &found, &mask)? {
            Some(value) => (Some(value), false),
            None => return Err(NoMatch),
        },
        None => (None, false),
    };
    let scale = found.scale * scale_q * scale_k;
    let operands: Vec<Value> = [q4, k4, v4].into_iter().chain(mask).collect();
    let attended = editor.push(Attention { scale, causal }, &operands)?;
    let result = editor.reshaped(attended, &site.ty.shape)?;
    Edit::of(result, format!("{weights} weighs {v} by softmax"))
}

/// The operand of a softmax over the last axis.
pub(super) fn softmax_operand(editor: &Editor, value: Value) -> Option<Value> {
    let (softmax, operands) = node_as!(editor, value, Softmax)?;
    (softmax.axis + 1 == editor.ty(value).rank()).then_some(operands[0])
}

/// `scale · q · kt` and a mask.
pub(super) struct Scores {
    q: Value,
    kt: Value,
    scale: f64,
    pub(super) mask: Option<Mask>,
    /// Batch and heads, where they are also multiplied into one axis.
    heads: Option<[Dim; 2]>,
}

/// A mask, which may have to be inverted first.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    pub(super) value: Value,
    inverted: bool,
    /// The axes of the scores that it is stretched to.
    rank: usize,
}

/// Reads scores from the softmax back to the product of queries and keys.
pub(super) fn scores(editor: &Editor, value: Value) -> Option<Scores> {
    let (mut at, mut scale, mut mask, mut heads) = (value, 1.0, None, None);
    loop {
        let node = editor.node(at).filter(|_| editor.used_once(at))?;
        let operands = node.operands.as_slice();
        let rank = editor.ty(at).rank();
        let masked = |value: Value, inverted: bool| {
            let alone = mask.is_none() && scale == 1.0;
            alone.then_some(Mask {
                value,
                inverted,
                rank,
            })
        };
        let next = match &node.op {
            Op::Matmul(_) => {
                return Some(Scores {
                    q: operands[0],
                    kt: operands[1],
                    scale,
                    mask,
                    heads,
                });
            }
            Op::Reshape(_) => {
                let split = split_heads(editor, operands[0], at)?;
                let agrees = heads.as_ref().is_none_or(|heads| *heads == split);
                heads = Some(split).filter(|_| agrees);
                heads.as_ref()?;
                operands[0]
            }
            Op::Mul(_) | Op::Div(_) => {
                let (inner, factor) = scaled(editor, at);
                (inner != at).then_some(())?;
                scale *= factor;
                inner
            }
            Op::Add(_) => {
                let (inner, added) = match leads_to_matmul(editor, operands[0], 8) {
                    true => (operands[0], operands[1]),
                    false => (operands[1], operands[0]),
                };
                if number(editor, added) != Some(0.0) {
                    mask = Some(masked(added, false)?);
                }
                inner
            }
            Op::Select(_) => {
                let hides = |value| number(editor, value) == Some(f64::NEG_INFINITY);
                let inverted = hides(operands[1]);
                mask = Some(masked(operands[0], inverted)?);
                let (inner, hidden) = match inverted {
                    true => (operands[2], operands[1]),
                    false => (operands[1], operands[2]),
                };
                hides(hidden).then_some(inner)?
            }
            _ => return None,
        };
        // A mask of more axes would stretch the scores instead of being stretched to them.
        let same = editor.ty(next).shape == editor.ty(at).shape;
        (same || matches!(node.op, Op::Reshape(_))).then_some(())?;
        at = next;
    }
}

/// Batch and heads, if a reshape multiplies them, or splits them.
fn split_heads(editor: &Editor, from: Value, to: Value) -> Option<[Dim; 2]> {
    let (from, to) = (&editor.ty(from).shape, &editor.ty(to).shape);
    let split = if from.len() > to.len() { from } else { to };
    let same = from.len().abs_diff(to.len()) == 1
        && split.len() == 4
        && from[from.len() - 2..] == to[to.len() - 2..];
    same.then(|| [split[0].clone(), split[1].clone()])
}

fn leads_to_matmul(editor: &Editor, value: Value, depth: usize) -> bool {
    let (Some(node), Some(depth)) = (editor.node(value), depth.checked_sub(1)) else {
        return false;
    };
    match &node.op {
        Op::Matmul(_) => true,
        Op::Reshape(_) | Op::Div(_) => leads_to_matmul(editor, node.operands[0], depth),
        Op::Mul(_) => with_number(editor, &node.operands)
            .is_some_and(|(inner, _)| leads_to_matmul(editor, inner, depth)),
        Op::Add(_) | Op::Select(_) => node
            .operands
            .iter()
            .any(|&operand| leads_to_matmul(editor, operand, depth)),
        _ => false,
    }
}

/// `kt` without a constant factor, also one under the transpose.
fn unscaled_transpose(editor: &mut Editor, kt: Value) -> Result<(Value, f64), GraphError> {
    let (kt, outer) = scaled(editor, kt);
    let Some((transpose, inner)) = node_as!(editor, kt, Transpose) else {
        return Ok((kt, outer));
    };
    let (source, factor) = scaled(editor, inner[0]);
    let transpose = transpose.clone();
    Ok((editor.push(transpose, &[source])?, outer * factor))
}

/// The last two axes swapped; where they are swapped already, what they were.
fn swapped(editor: &mut Editor, value: Value) -> Result<Value, GraphError> {
    let rank = editor.ty(value).rank();
    let mut permutation: Vec<usize> = (0..rank).collect();
    permutation.swap(rank - 2, rank - 1);
    match node_as!(editor, value, Transpose) {
        Some((inner, source)) if inner.permutation == permutation => Ok(source[0]),
        Some(_) | None => editor.push(Transpose { permutation }, &[value]),
    }
}

/// The operands as `[batch, heads, rows, columns]`.
fn four_axes(
    editor: &mut Editor,
    found: &Scores,
    values: [Value; 3],
) -> Result<Option<[Value; 3]>, GraphError> {
    let ranks = values.map(|value| editor.ty(value).rank());
    let mixed = ranks.contains(&4) && ranks.contains(&3) && found.heads.is_none();
    if mixed || !ranks.iter().all(|rank| [3, 4].contains(rank)) {
        return Ok(None);
    }
    let mut four = values;
    for value in &mut four {
        let shape = &editor.ty(*value).shape;
        if let [both, rows, columns] = shape.as_slice() {
            let [batch, heads] = found.heads.clone().unwrap_or([both.clone(), 1.into()]);
            if batch.mul(&heads) != *both {
                return Ok(None);
            }
            let shape = vec![batch, heads, rows.clone(), columns.clone()];
            *value = editor.reshaped(*value, &shape)?;
        }
    }
    Ok(Some(four))
}

/// Whether batch, heads and element types are the same, without broadcasting.
fn agree(editor: &Editor, q: Value, k: Value, v: Value) -> bool {
    let (q, k, v) = (editor.ty(q), editor.ty(k), editor.ty(v));
    let same = |other: &[Dim]| other[..2] == q.shape[..2];
    let float = q.dtype.is_float() && q.dtype == k.dtype && q.dtype == v.dtype;
    float && same(&k.shape) && same(&v.shape)
}

/// The mask in a shape that stretches to `[batch, heads, queries, keys]`.
fn mask_operand(
    editor: &mut Editor,
    found: &Scores,
    mask: &Mask,
) -> Result<Option<Value>, GraphError> {
    let shape = editor.ty(mask.value).shape.clone();
    let value = match (mask.inverted, mask.rank, shape.as_slice()) {
        (true, _, _) => editor.push(Not, &[mask.value])?,
        (false, _, _) => mask.value,
    };
    match shape.as_slice() {
        [both, rows, columns] if mask.rank == 3 => {
            let [batch, heads] = match (&found.heads, both.is(1)) {
                (_, true) => [1.into(), 1.into()],
                (None, false) => [both.clone(), 1.into()],
                (Some(heads), false) => heads.clone(),
            };
            let shape = vec![batch, heads, rows.clone(), columns.clone()];
            editor.reshaped(value, &shape).map(Some)
        }
        shape if shape.len() <= mask.rank => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// Whether a constant mask hides exactly the keys behind each query.
fn is_causal(editor: &Editor, mask: &Mask, q: Value, k: Value) -> bool {
    let (queries, keys) = (&editor.ty(q).shape[2], &editor.ty(k).shape[2]);
    let (Some(tensor), Some(size)) = (editor.constant(mask.value), queries.extent()) else {
        return false;
    };
    if queries != keys || size == 0 || tensor.elements() != size * size {
        return false;
    }
    if !tensor.shape().ends_with(&[size, size]) {
        return false;
    }
    let visible = |position: usize| position % size <= position / size;
    match tensor.values() {
        Values::Float(values) => values.iter().enumerate().all(|(position, &value)| {
            (visible(position) && value == 0.0) || (!visible(position) && value <= HIDDEN)
        }),
        Values::Bool(values) => {
            let allowed =
                |(position, &value): (usize, &bool)| (value != mask.inverted) == visible(position);
            values.iter().enumerate().all(allowed)
        }
        Values::Int(_) => false,
    }
}
