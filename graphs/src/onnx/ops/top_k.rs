//! `TopK`: the largest or smallest elements of an axis, in order.
//!
//! Takes a known number of elements, returns values and indices. The rank of an element is the
//! number of those before it, which is counted pair by pair: for an axis of `n` elements, `n²`
//! comparisons.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axis};

/// The number of elements is an attribute before opset 10, then an operand.
pub(crate) fn top_k(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let rank = context.rank(x);
    let axis = axis(node.int_or("axis", -1)?, rank, "axis")?;
    let count = match node.int("k")? {
        Some(count) => count,
        None => context.int_of(node.input(1, "K")?, "K")?,
    };
    let last = rank - 1;
    let mut swapped: Vec<usize> = (0..rank).collect();
    swapped.swap(axis, last);
    let x = context.transpose(x, swapped.clone())?;
    let shape = context.shape(x);
    let extent = shape[last].clone();
    if count < 0 || extent.known().is_some_and(|extent| extent < count) {
        return Err(Problem::Operand {
            name: "K",
            found: count.to_string(),
            wanted: format!("a number of elements from 0 to {extent}"),
        });
    }
    let ranks = ranks(context, x, node.flag("largest", true)?)?;
    // Row `r` of the table is true where the element of rank `r` is.
    let numbers = iota(
        context,
        Dim::from(count),
        vec![Dim::from(count), Dim::from(1)],
    )?;
    let ranks = inserted(context, ranks, last)?;
    let table = context.push(ops::Equal, &[numbers, ranks])?;
    let table = context.cast(table, DType::I32)?;
    let positions = iota(context, extent.clone(), vec![extent])?;
    let chosen = context.push(ops::Mul, &[table, positions])?;
    let sum = ops::ReduceSum {
        axes: vec![rank],
        keep: false,
    };
    let indices = context.push(sum, &[chosen])?;
    let places = inserted(context, indices, rank)?;
    let values = context.push(ops::GatherNd { batch_axes: last }, &[x, places])?;
    let indices = context.cast(indices, DType::I64)?;
    Ok(vec![
        context.transpose(values, swapped.clone())?,
        context.transpose(indices, swapped)?,
    ])
}

/// For each element of the last axis the number of those that come before it: larger (or smaller)
/// ones, and equal ones of a lower index. NaN is as large as infinity.
fn ranks(context: &mut Context, x: Wire, largest: bool) -> Result<Wire> {
    let (rank, dtype) = (context.rank(x), context.dtype(x));
    let mut key = x;
    if dtype.is_float() {
        let infinity = context.scalar(dtype, f64::INFINITY);
        let unknown = context.push(ops::IsNan, &[x])?;
        key = context.push(ops::Select, &[unknown, infinity, x])?;
    }
    let (own, other) = (
        inserted(context, key, rank)?,
        inserted(context, key, rank - 1)?,
    );
    let operands = match largest {
        true => [own, other],
        false => [other, own],
    };
    let before = context.push(ops::Less, &operands)?;
    let level = context.push(ops::Equal, &operands)?;
    let extent = context.shape(x)[rank - 1].clone();
    let row = iota(context, extent.clone(), vec![extent.clone(), Dim::from(1)])?;
    let column = iota(context, extent.clone(), vec![extent])?;
    let earlier = context.push(ops::Less, &[column, row])?;
    let tied = context.push(ops::And, &[level, earlier])?;
    let before = context.push(ops::Or, &[before, tied])?;
    let ones = context.cast(before, DType::I32)?;
    let sum = ops::ReduceSum {
        axes: vec![rank],
        keep: false,
    };
    context.push(sum, &[ones])
}

fn iota(context: &mut Context, length: Dim, shape: Vec<Dim>) -> Result<Wire> {
    let dtype = DType::I32;
    let numbers = context.push(ops::Iota { length, dtype }, &[])?;
    context.reshape(numbers, shape)
}

/// `x` with an axis of extent 1 at `axis`.
fn inserted(context: &mut Context, x: Wire, axis: usize) -> Result<Wire> {
    let mut shape = context.shape(x);
    shape.insert(axis, Dim::from(1));
    context.reshape(x, shape)
}
