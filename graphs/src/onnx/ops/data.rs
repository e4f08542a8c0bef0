//! Operators that make, pass on or retype data.
//!
//! Takes attributes and known sizes, gives constants, ranges and casts.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;
use compiler::value::tensor::{Tensor, Values};

use crate::onnx::context::{Context, Result, Wire, symbolic};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;
use crate::onnx::proto::{element_type, element_type_name};

pub(crate) fn identity(_context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    Ok(vec![node.input(0, "input")?])
}

/// A dense tensor is taken by the walk before it comes here, as it may be large.
pub(crate) fn constant(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let tensor = if let Some(tensor) = node.tensor("value") {
        tensor.clone()
    } else if node.has("value_float") {
        Tensor::from_f32(&[], &[node.float_or("value_float", 0.0)? as f32])
    } else if let Some(floats) = node.floats("value_floats")? {
        Tensor::from_f32(&[floats.len()], &floats)
    } else if let Some(int) = node.int("value_int")? {
        Tensor::from_i64(&[], &[int])
    } else if let Some(ints) = node.ints("value_ints")? {
        Tensor::from_i64(&[ints.len()], &ints)
    } else {
        return Err(node.refuse("value", "missing", "a dense tensor or numbers"));
    };
    Ok(vec![context.constant(tensor)])
}

pub(crate) fn constant_of_shape(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let shape = context.sizes_of(node.input(0, "input")?, "input")?;
    let value = match node.tensor("value") {
        None => Tensor::from_f32(&[], &[0.0]),
        Some(tensor) => tensor.reshaped(Vec::new()).map_err(|_| {
            node.refuse(
                "value",
                format!("a tensor of shape {:?}", tensor.shape()),
                "one element",
            )
        })?,
    };
    let value = context.constant(value);
    Ok(vec![context.broadcast(value, shape)?])
}

pub(crate) fn cast(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let dtype = element_type_of(node, "to")?;
    Ok(vec![context.cast(node.input(0, "input")?, dtype)?])
}

/// The element type that an attribute names.
pub(super) fn element_type_of(node: &Node<'_>, attribute: &str) -> Result<DType> {
    let number = i32::try_from(node.int_or(attribute, 0)?).unwrap_or(0);
    element_type(number).ok_or_else(|| {
        node.refuse(
            attribute,
            element_type_name(number),
            "an element type that the compiler has",
        )
    })
}

pub(crate) fn cast_like(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let dtype = context.dtype(node.input(1, "target_type")?);
    Ok(vec![context.cast(node.input(0, "input")?, dtype)?])
}

/// Nothing is dropped outside of training; the mask is true everywhere.
pub(crate) fn dropout(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    if let Some(training) = node.optional(2)
        && context.int_of(training, "training_mode")? != 0
    {
        return Err(Problem::Operand {
            name: "training_mode",
            found: "true".to_owned(),
            wanted: "false".to_owned(),
        });
    }
    let truth = context.scalar(DType::Bool, 1.0);
    let mask = context.broadcast(truth, context.shape(x))?;
    Ok(vec![x, mask])
}

/// `start + i · delta` for `i < ceil((limit − start) / delta)`.
pub(crate) fn range(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (start, limit, delta) = (
        node.input(0, "start")?,
        node.input(1, "limit")?,
        node.input(2, "delta")?,
    );
    let dtype = context.dtype(start);
    let length = match dtype.is_float() {
        true => {
            let (from, to) = (
                context.float_of(start, "start")?,
                context.float_of(limit, "limit")?,
            );
            let count = ((to - from) / context.float_of(delta, "delta")?).ceil();
            // Saturates; what no memory holds is refused where the type is inferred.
            Dim::from((count.max(0.0)) as i64)
        }
        false => int_length(context, start, limit, delta)?,
    };
    let scalar = |context: &mut Context, wire| context.reshape(wire, Vec::new());
    let (start, delta) = (scalar(context, start)?, scalar(context, delta)?);
    let mut result = context.push(ops::Iota { length, dtype }, &[])?;
    if !is_number(context, delta, 1.0) {
        result = context.push(ops::Mul, &[result, delta])?;
    }
    if !is_number(context, start, 0.0) {
        result = context.push(ops::Add, &[result, start])?;
    }
    Ok(vec![result])
}

fn int_length(context: &Context, start: Wire, limit: Wire, delta: Wire) -> Result<Dim> {
    let size = |wire, name| -> Result<Dim> {
        let sizes = context.sizes_of(wire, name)?;
        sizes
            .into_iter()
            .next()
            .ok_or(Problem::MissingOperand { name })
    };
    let span = size(limit, "limit")?.sub(&size(start, "start")?);
    let delta = context.int_of(delta, "delta")?;
    let (span, step) = match delta {
        0 | i64::MIN => {
            return Err(Problem::Operand {
                name: "delta",
                found: delta.to_string(),
                wanted: "a step other than 0".to_owned(),
            });
        }
        1.. => (span, delta),
        _ => (span.mul(&Dim::from(-1)), -delta),
    };
    let count = span.add(&Dim::from(step.saturating_sub(1))).floor_div(step);
    match (count.known(), count.lower_bound()) {
        (Some(known), _) => Ok(Dim::from(known.max(0))),
        (None, Some(0..)) => Ok(count),
        (None, _) => Err(symbolic("the length of the range", &count)),
    }
}

fn is_number(context: &Context, wire: Wire, number: f64) -> bool {
    context
        .known(wire)
        .is_some_and(|tensor| match tensor.values() {
            Values::Float(values) => values == [number],
            Values::Int(values) => values == [number as i64],
            Values::Bool(_) => false,
        })
}
