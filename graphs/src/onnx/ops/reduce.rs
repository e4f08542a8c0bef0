//! Operators along axes: reductions, softmax, cumulative sums, positions of the largest.
//!
//! Takes axes from attributes or known operands, gives the IR's reductions over sorted axes.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes, axes_given, axis};

use super::shape::product;

/// The operand, the sorted axes (`None`: nothing is reduced), and whether they are kept.
pub(super) fn reduction(
    context: &Context,
    node: &Node<'_>,
) -> Result<(Wire, Option<Vec<usize>>, bool)> {
    let x = node.input(0, "data")?;
    let rank = context.rank(x);
    let given = axes_given(context, node, 1)?.unwrap_or_default();
    let keep = node.flag("keepdims", true)?;
    if given.is_empty() {
        let noop = node.flag("noop_with_empty_axes", false)?;
        return Ok((x, (!noop).then(|| (0..rank).collect()), keep));
    }
    let mut axes = axes(&given, rank, "axes")?;
    axes.sort_unstable();
    Ok((x, Some(axes), keep))
}

pub(crate) fn reduce_sum(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    Ok(vec![match axes {
        Some(axes) => context.push(ops::ReduceSum { axes, keep }, &[x])?,
        None => x,
    }])
}

pub(crate) fn reduce_mean(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    Ok(vec![match axes {
        Some(axes) => context.push(ops::ReduceMean { axes, keep }, &[x])?,
        None => x,
    }])
}

/// The largest of truth values is "any".
pub(crate) fn reduce_max(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    Ok(vec![match axes {
        None => x,
        Some(axes) if context.dtype(x) == DType::Bool => any(context, x, axes, keep)?,
        Some(axes) => context.push(ops::ReduceMax { axes, keep }, &[x])?,
    }])
}

/// Whether any of the truth values along `axes` holds; none of no values does.
fn any(context: &mut Context, x: Wire, axes: Vec<usize>, keep: bool) -> Result<Wire> {
    let ones = context.cast(x, DType::I64)?;
    let count = context.push(ops::ReduceSum { axes, keep }, &[ones])?;
    context.cast(count, DType::Bool)
}

/// The smallest is the negative of the largest negative; of truth values, "not any not".
pub(crate) fn reduce_min(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, axes, keep) = reduction(context, node)?;
    let Some(axes) = axes else {
        return Ok(vec![x]);
    };
    let dtype = context.dtype(x);
    if dtype == DType::Bool {
        let x = context.push(ops::Not, &[x])?;
        let any = any(context, x, axes, keep)?;
        return Ok(vec![context.push(ops::Not, &[any])?]);
    }
    let signed = match dtype {
        DType::U8 | DType::I8 => DType::I32,
        DType::I32 => DType::I64,
        DType::Bool | DType::I64 | DType::F16 | DType::BF16 | DType::F32 | DType::F64 => dtype,
    };
    let x = context.cast(x, signed)?;
    let negative = context.push(ops::Neg, &[x])?;
    let largest = context.push(ops::ReduceMax { axes, keep }, &[negative])?;
    let result = context.push(ops::Neg, &[largest])?;
    Ok(vec![context.cast(result, dtype)?])
}

/// Products are written out: they occur on shapes, which are short.
pub(crate) fn reduce_prod(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    const FACTORS_MAX: usize = 256;
    let (mut x, axes, keep) = reduction(context, node)?;
    let Some(axes) = axes else {
        return Ok(vec![x]);
    };
    let mut shape = context.shape(x);
    for &axis in &axes {
        let extent = context.extent(x, axis)?;
        if extent > FACTORS_MAX {
            return Err(Problem::Operand {
                name: "data",
                found: context.ty(x).to_string(),
                wanted: format!("at most {FACTORS_MAX} factors"),
            });
        }
        shape[axis] = Dim::from(1);
        let one = context.scalar(context.dtype(x), 1.0);
        let mut result = context.broadcast(one, shape.clone())?;
        for index in 0..extent {
            let factor = context.slice(x, axis, Dim::from(index), Dim::from(1))?;
            result = match index {
                0 => factor,
                _ => context.push(ops::Mul, &[result, factor])?,
            };
        }
        x = result;
    }
    if !keep {
        let kept = shape
            .into_iter()
            .enumerate()
            .filter(|(axis, _)| !axes.contains(axis));
        let kept = kept.map(|(_, dim)| dim).collect();
        x = context.reshape(x, kept)?;
    }
    Ok(vec![x])
}

pub(crate) fn argmax(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    let mut shape = context.shape(x);
    let axis = axis(node.int_or("axis", 0)?, shape.len(), "axis")?;
    let last = node.flag("select_last_index", false)?;
    let result = context.push(ops::Argmax { axis, last }, &[x])?;
    if !node.flag("keepdims", true)? {
        return Ok(vec![result]);
    }
    shape[axis] = Dim::from(1);
    Ok(vec![context.reshape(result, shape)?])
}

pub(crate) fn cumsum(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "x")?;
    let number = context.int_of(node.input(1, "axis")?, "axis")?;
    let axis = axis(number, context.rank(x), "axis")?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    Ok(vec![context.push(
        ops::Cumsum {
            axis,
            exclusive,
            reverse,
        },
        &[x],
    )?])
}

pub(crate) fn softmax(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    along_axis(context, node, |context, x, axis| {
        context.push(ops::Softmax { axis }, &[x])
    })
}

/// `x − max − ln Σ e^(x − max)`.
pub(crate) fn log_softmax(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    along_axis(context, node, |context, x, axis| {
        context.in_f32(x, |context, x| {
            let (axes, keep) = (vec![axis], true);
            let largest = ops::ReduceMax {
                axes: axes.clone(),
                keep,
            };
            let largest = context.push(largest, &[x])?;
            let below = context.push(ops::Sub, &[x, largest])?;
            let powers = context.push(ops::Exp, &[below])?;
            let sum = context.push(ops::ReduceSum { axes, keep }, &[powers])?;
            let log = context.push(ops::Log, &[sum])?;
            context.push(ops::Sub, &[below, log])
        })
    })
}

/// Before opset 13, everything from `axis` on is one axis.
fn along_axis(
    context: &mut Context,
    node: &Node<'_>,
    apply: impl FnOnce(&mut Context, Wire, usize) -> Result<Wire>,
) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let shape = context.shape(x);
    if node.opset >= 13 {
        let axis = axis(node.int_or("axis", -1)?, shape.len(), "axis")?;
        return Ok(vec![apply(context, x, axis)?]);
    }
    let first = axis(node.int_or("axis", 1)?, shape.len(), "axis")?;
    if first + 1 == shape.len() {
        return Ok(vec![apply(context, x, first)?]);
    }
    let (outer, inner) = shape.split_at(first);
    let matrix = context.reshape(x, vec![product(outer), product(inner)])?;
    let result = apply(context, matrix, 1)?;
    Ok(vec![context.reshape(result, shape)?])
}

pub(crate) fn global_average_pool(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let axes = (2..context.rank(x)).collect();
    Ok(vec![
        context.push(ops::ReduceMean { axes, keep: true }, &[x])?,
    ])
}

pub(crate) fn global_max_pool(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let axes = (2..context.rank(x)).collect();
    Ok(vec![
        context.push(ops::ReduceMax { axes, keep: true }, &[x])?,
    ])
}
