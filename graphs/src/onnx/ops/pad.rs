//! `Pad`: borders of a constant or of the tensor's own elements.
//!
//! Takes known widths, gives the IR's padding; negative widths cut.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes};

pub(crate) fn pad(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let mut x = node.input(0, "data")?;
    let rank = context.rank(x);
    let pads = match node.ints("pads")? {
        Some(list) => list,
        None => context.ints_of(node.input(1, "pads")?, "pads")?,
    };
    let padded = match node.optional(3) {
        Some(wire) => axes(&context.ints_of(wire, "axes")?, rank, "axes")?,
        None => (0..rank).collect(),
    };
    let limit = compiler::value::extents::ELEMENTS_MAX;
    if pads.len() != 2 * padded.len() || pads.iter().any(|pad| pad.abs_diff(0) > limit as u64) {
        return Err(Problem::Operand {
            name: "pads",
            found: format!("{} widths for {} axes", pads.len(), padded.len()),
            wanted: "two sensible widths per axis".to_owned(),
        });
    }
    let name = node.text_or("mode", "constant")?;
    let mode = match name.as_str() {
        "constant" => ops::PadMode::Constant,
        "edge" => ops::PadMode::Edge,
        "reflect" => ops::PadMode::Reflect,
        "wrap" => ops::PadMode::Wrap,
        _ => return Err(node.refuse("mode", name, "constant, edge, reflect or wrap")),
    };
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (index, &axis) in padded.iter().enumerate() {
        before[axis] = pads[index];
        after[axis] = pads[index + padded.len()];
    }
    for axis in 0..rank {
        x = cut(
            context,
            x,
            axis,
            (-before[axis]).max(0),
            (-after[axis]).max(0),
        )?;
    }
    let widen = |widths: Vec<i64>| -> Vec<i64> { widths.into_iter().map(|w| w.max(0)).collect() };
    let (before, after) = (widen(before), widen(after));
    if before.iter().chain(&after).all(|&width| width == 0) {
        return Ok(vec![x]);
    }
    let mut operands = vec![x];
    if mode == ops::PadMode::Constant {
        if let Some(value) = node.optional(2) {
            operands.push(context.reshape(value, Vec::new())?);
        } else if node.has("value") {
            let value = node.float_or("value", 0.0)?;
            operands.push(context.scalar(context.dtype(x), value));
        }
    }
    Ok(vec![context.push(
        ops::Pad {
            before,
            after,
            mode,
        },
        &operands,
    )?])
}

/// `x` without the first `before` and the last `after` elements of an axis.
fn cut(context: &mut Context, x: Wire, axis: usize, before: i64, after: i64) -> Result<Wire> {
    if before == 0 && after == 0 {
        return Ok(x);
    }
    let length = context.shape(x)[axis].sub(&Dim::from(before.saturating_add(after)));
    context.slice(x, axis, Dim::from(before), length)
}
