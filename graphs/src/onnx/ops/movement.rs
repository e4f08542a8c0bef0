//! Operators that move elements by position or by index.
//!
//! Takes wires and known axes, repeats or permutations, gives the IR's movements.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes, axis};

pub(crate) fn concat(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let wires = node.variadic("inputs")?;
    // Before opset 4 the axis may be left out.
    let axis = axis(node.int_or("axis", 1)?, context.rank(wires[0]), "axis")?;
    match wires.as_slice() {
        [only] => Ok(vec![*only]),
        _ => Ok(vec![context.push(ops::Concat { axis }, &wires)?]),
    }
}

pub(crate) fn transpose(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    let rank = context.rank(x);
    let permutation = match node.ints("perm")? {
        Some(list) => axes(&list, rank, "perm")?,
        None => (0..rank).rev().collect(),
    };
    if permutation.len() != rank {
        let wanted = format!("a permutation of {rank} axes");
        return Err(node.refuse("perm", format!("{permutation:?}"), &wanted));
    }
    Ok(vec![context.transpose(x, permutation)?])
}

pub(crate) fn gather(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (data, indices) = (node.input(0, "data")?, node.input(1, "indices")?);
    let axis = axis(node.int_or("axis", 0)?, context.rank(data), "axis")?;
    Ok(vec![context.push(ops::Gather { axis }, &[data, indices])?])
}

pub(crate) fn gather_nd(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (data, indices) = (node.input(0, "data")?, node.input(1, "indices")?);
    let batch = node.int_or("batch_dims", 0)?;
    let batch_axes =
        usize::try_from(batch).map_err(|_| node.refuse("batch_dims", batch, "a number of axes"))?;
    Ok(vec![
        context.push(ops::GatherNd { batch_axes }, &[data, indices])?,
    ])
}

/// `result[i, …, j] = data[i, …, indices[i, …, j]]` with `axis` as the last one.
pub(crate) fn gather_elements(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (mut data, mut indices) = (node.input(0, "data")?, node.input(1, "indices")?);
    let rank = context.rank(data);
    let axis = axis(node.int_or("axis", 0)?, rank, "axis")?;
    if context.rank(indices) != rank {
        return Err(Problem::Operand {
            name: "indices",
            found: context.ty(indices).to_string(),
            wanted: format!("as many axes as {}", context.ty(data)),
        });
    }
    // Elements beyond the indices are never read.
    for other in (0..rank).filter(|&other| other != axis) {
        let length = context.shape(indices)[other].clone();
        data = context.slice(data, other, Dim::from(0), length)?;
    }
    let mut swapped: Vec<usize> = (0..rank).collect();
    swapped.swap(axis, rank - 1);
    data = context.transpose(data, swapped.clone())?;
    indices = context.transpose(indices, swapped.clone())?;
    let mut shape = context.shape(indices);
    shape.push(Dim::from(1));
    indices = context.reshape(indices, shape)?;
    let batch_axes = rank - 1;
    let result = context.push(ops::GatherNd { batch_axes }, &[data, indices])?;
    Ok(vec![context.transpose(result, swapped)?])
}

pub(crate) fn scatter_nd(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let operands = [
        node.input(0, "data")?,
        node.input(1, "indices")?,
        node.input(2, "updates")?,
    ];
    let name = node.text_or("reduction", "none")?;
    let reduction = match name.as_str() {
        "none" => ops::ScatterReduction::Replace,
        "add" => ops::ScatterReduction::Add,
        "mul" => ops::ScatterReduction::Mul,
        "max" => ops::ScatterReduction::Max,
        "min" => ops::ScatterReduction::Min,
        _ => return Err(node.refuse("reduction", name, "none, add, mul, max or min")),
    };
    Ok(vec![context.push(ops::ScatterNd { reduction }, &operands)?])
}

/// Each axis repeats as a whole: `[d]` becomes `[1, d]`, `[r, d]`, `[r · d]`.
pub(crate) fn tile(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let repeats = context.sizes_of(node.input(1, "repeats")?, "repeats")?;
    let shape = context.shape(x);
    let negative = repeats.iter().any(|r| r.known().is_some_and(|r| r < 0));
    if repeats.len() != shape.len() || negative {
        return Err(Problem::Operand {
            name: "repeats",
            found: format!("{} numbers", repeats.len()),
            wanted: format!("{} numbers of at least 0", shape.len()),
        });
    }
    if repeats.iter().all(|repeat| repeat.is(1)) {
        return Ok(vec![x]);
    }
    let (mut split, mut stretched, mut tiled) = (Vec::new(), Vec::new(), Vec::new());
    for (dim, repeat) in shape.iter().zip(&repeats) {
        if !repeat.is(1) {
            split.push(Dim::from(1));
            stretched.push(repeat.clone());
        }
        split.push(dim.clone());
        stretched.push(dim.clone());
        tiled.push(dim.mul(repeat));
    }
    let split = context.reshape(x, split)?;
    let stretched = context.broadcast(split, stretched)?;
    Ok(vec![context.reshape(stretched, tiled)?])
}

pub(crate) fn trilu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let diagonal = match node.optional(1) {
        Some(k) => context.int_of(k, "k")?,
        None => 0,
    };
    let upper = node.flag("upper", true)?;
    Ok(vec![context.push(ops::Trilu { upper, diagonal }, &[x])?])
}
