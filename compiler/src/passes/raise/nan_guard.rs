//! `select(is_nan(p), 0, p)` of attention weights → `p`, where no row can be masked wholly.
//!
//! PyTorch's exporter guards rows that may see nothing; without a mask, or with a constant one
//! that leaves each row something, only NaN operands make a NaN.

use super::attention;
use crate::graph::Value;
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{node_as, number, site_as};
use crate::value::tensor::Values;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Select).ok_or(NoMatch)?;
    let p = operands[2];
    let asks = node_as!(editor, operands[0], IsNan).is_some_and(|(_, of)| of[0] == p);
    if !asks || number(editor, operands[1]) != Some(0.0) {
        return Err(NoMatch);
    }
    let scores = attention::softmax_operand(editor, p).ok_or(NoMatch)?;
    let found = attention::scores(editor, scores).ok_or(NoMatch)?;
    match found
        .mask
        .is_none_or(|mask| leaves_something(editor, mask.value))
    {
        true => Edit::of(p, "no row is masked wholly"),
        false => Err(NoMatch),
    }
}

/// Whether every row of a constant mask lets something through.
fn leaves_something(editor: &Editor, mask: Value) -> bool {
    let Some(tensor) = editor.constant(mask) else {
        return false;
    };
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    match tensor.values() {
        Values::Bool(values) => values.chunks(row).all(|row| row.contains(&true)),
        Values::Float(values) => values
            .chunks(row)
            .all(|row| row.iter().any(|&value| value > f64::NEG_INFINITY)),
        Values::Int(_) => false,
    }
}
