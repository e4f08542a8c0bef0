//! Normalisations.
//!
//! Takes operands of the ONNX operators, gives group and layer norms; statistics asked for beside
//! the result are computed again from the operand.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axis};

const EPSILON: f32 = 1e-5;

/// `(x − mean) / √(variance + epsilon) · scale + bias` with the statistics that training left.
pub(crate) fn batch_normalization(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    if node.flag("training_mode", false)? {
        return Err(node.refuse("training_mode", 1, "0: statistics are operands"));
    }
    if !node.flag("spatial", true)? {
        return Err(node.refuse("spatial", 0, "1: statistics per channel"));
    }
    let x = node.input(0, "X")?;
    let channels = match context.rank(x) {
        0 | 1 => Dim::from(1),
        _ => context.shape(x)[1].clone(),
    };
    let mut column = vec![Dim::from(1); context.rank(x).saturating_sub(1)];
    if let Some(first) = column.first_mut() {
        *first = channels;
    }
    let epsilon = node.float_or("epsilon", EPSILON)?;
    let names = ["scale", "B", "input_mean", "input_var"];
    let mut parts = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let part = node.input(index + 1, name)?;
        let part = context.cast(part, single(context.dtype(x)))?;
        parts.push(context.reshape(part, column.clone())?);
    }
    let result = context.in_f32(x, |context, x| {
        let variance = context.push_scalar(ops::Add, parts[3], epsilon)?;
        let deviation = context.push(ops::Sqrt, &[variance])?;
        let factor = context.push(ops::Div, &[parts[0], deviation])?;
        let shift = context.push(ops::Mul, &[parts[2], factor])?;
        let shift = context.push(ops::Sub, &[parts[1], shift])?;
        let scaled = context.push(ops::Mul, &[x, factor])?;
        context.push(ops::Add, &[scaled, shift])
    });
    Ok(vec![result?])
}

/// The type that statistics of `dtype` have.
fn single(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Each channel is a group of its own.
pub(crate) fn instance_normalization(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, scale, bias) = (
        node.input(0, "input")?,
        node.input(1, "scale")?,
        node.input(2, "B")?,
    );
    let channels = channels(context, x)?;
    let op = ops::GroupNorm {
        groups: channels,
        epsilon: node.float_or("epsilon", EPSILON)?,
    };
    Ok(vec![context.push(op, &[x, scale, bias])?])
}

/// Scale and bias are per group before opset 21, then per channel.
pub(crate) fn group_normalization(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, scale, bias) = (
        node.input(0, "X")?,
        node.input(1, "scale")?,
        node.input(2, "bias")?,
    );
    let channels = channels(context, x)?;
    let groups = node.int_or("num_groups", 0)?;
    let groups = usize::try_from(groups)
        .ok()
        .filter(|&groups| groups >= 1 && channels % groups == 0)
        .ok_or_else(|| node.refuse("num_groups", groups, "a divisor of the channels"))?;
    let per_group = node.opset < 21 && context.shape(scale) == [Dim::from(groups)];
    let (scale, bias) = match per_group {
        true => (
            per_channel(context, scale, groups, channels)?,
            per_channel(context, bias, groups, channels)?,
        ),
        false => (scale, bias),
    };
    let op = ops::GroupNorm {
        groups,
        epsilon: node.float_or("epsilon", EPSILON)?,
    };
    Ok(vec![context.push(op, &[x, scale, bias])?])
}

fn channels(context: &Context, x: Wire) -> Result<usize> {
    match context.rank(x) {
        0 | 1 => Err(Problem::Operand {
            name: "X",
            found: context.ty(x).to_string(),
            wanted: "batch, channels and more axes".to_owned(),
        }),
        _ => context.extent(x, 1),
    }
}

/// One number per group, repeated for each of its channels.
fn per_channel(context: &mut Context, wire: Wire, groups: usize, channels: usize) -> Result<Wire> {
    let column = context.reshape(wire, vec![Dim::from(groups), Dim::from(1)])?;
    let shape = vec![Dim::from(groups), Dim::from(channels / groups)];
    let table = context.broadcast(column, shape)?;
    context.reshape(table, vec![Dim::from(channels)])
}

/// The axes from `axis` on are normalised together.
pub(crate) fn layer_normalization(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, scale) = (node.input(0, "X")?, node.input(1, "Scale")?);
    let shape = context.shape(x);
    let first = axis(node.int_or("axis", -1)?, shape.len(), "axis")?;
    let epsilon = node.float_or("epsilon", EPSILON)?;
    let op = ops::LayerNorm {
        axes: shape.len() - first,
        epsilon,
    };
    let affine = [Some(scale), node.optional(2)];
    let fits = affine
        .iter()
        .flatten()
        .all(|&wire| context.shape(wire) == shape[first..]);
    let result = match fits {
        true => {
            let mut operands = vec![x];
            operands.extend(affine.iter().flatten());
            context.push(op, &operands)?
        }
        // ONNX lets scale and bias be stretched.
        false => {
            let normal = context.push(op, &[x])?;
            let mut result = context.push(ops::Mul, &[normal, scale])?;
            if let Some(bias) = affine[1] {
                result = context.push(ops::Add, &[result, bias])?;
            }
            result
        }
    };
    let mut results = vec![result];
    if node.results() > 1 {
        results.extend(statistics(context, x, first, epsilon)?);
    }
    Ok(results)
}

/// The mean and `1 / sqrt(variance + epsilon)` over the axes from `first` on.
pub(super) fn statistics(
    context: &mut Context,
    x: Wire,
    first: usize,
    epsilon: f64,
) -> Result<[Wire; 2]> {
    let dtype = single(context.dtype(x));
    let x = context.cast(x, dtype)?;
    let axes: Vec<usize> = (first..context.rank(x)).collect();
    let mean = context.push(
        ops::ReduceMean {
            axes: axes.clone(),
            keep: true,
        },
        &[x],
    )?;
    let centred = context.push(ops::Sub, &[x, mean])?;
    let squares = context.push(ops::Mul, &[centred, centred])?;
    let variance = context.push(ops::ReduceMean { axes, keep: true }, &[squares])?;
    let epsilon = context.scalar(dtype, epsilon);
    let shifted = context.push(ops::Add, &[variance, epsilon])?;
    let deviation = context.push(ops::Sqrt, &[shifted])?;
    Ok([mean, context.push(ops::Reciprocal, &[deviation])?])
}
