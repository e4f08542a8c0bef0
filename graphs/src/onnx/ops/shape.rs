//! Operators that read or change shapes and leave the elements where they are.
//!
//! Takes sizes that are known up to symbols, gives reshapes and broadcasts with every extent
//! resolved.

use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire, symbolic};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes, axes_given, axis};

/// The product of extents.
pub(crate) fn product(dims: &[Dim]) -> Dim {
    dims.iter()
        .fold(Dim::from(1), |product, dim| product.mul(dim))
}

/// The extents from `start` to `end`, both clamped.
pub(crate) fn shape(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let shape = context.shape(node.input(0, "data")?);
    let rank = shape.len() as i64;
    let clamp = |index: i64| -> usize {
        let index = if index < 0 {
            index.saturating_add(rank)
        } else {
            index
        };
        index.clamp(0, rank) as usize
    };
    let (start, end) = (
        clamp(node.int_or("start", 0)?),
        clamp(node.int_or("end", rank)?),
    );
    let dims = shape[start..end.max(start)].to_vec();
    Ok(vec![context.dims(dims)])
}

pub(crate) fn size(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let elements = context.ty(node.input(0, "data")?).elements();
    let list = context.dims(vec![elements]);
    Ok(vec![context.reshape(list, Vec::new())?])
}

/// Stretches both ways, as NumPy does for two operands.
pub(crate) fn expand(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let wanted = context.sizes_of(node.input(1, "shape")?, "shape")?;
    let own = context.shape(x);
    let rank = own.len().max(wanted.len());
    let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis].clone(),
        None => Dim::from(1),
    };
    let shape = (0..rank).map(|axis| {
        let (own, wanted) = (at(&own, axis), at(&wanted, axis));
        if wanted.is(1) { own } else { wanted }
    });
    let shape = shape.collect();
    Ok(vec![context.broadcast(x, shape)?])
}

/// Two axes: the product of the extents before `axis`, and of the rest.
pub(crate) fn flatten(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let shape = context.shape(x);
    let at = match node.int_or("axis", 1)? {
        last if last == shape.len() as i64 => shape.len(),
        other => axis(other, shape.len(), "axis")?,
    };
    let (outer, inner) = shape.split_at(at);
    Ok(vec![
        context.reshape(x, vec![product(outer), product(inner)])?,
    ])
}

/// 0 keeps an extent (unless `allowzero`), −1 takes what is left.
pub(crate) fn reshape(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    let mut shape = match node.ints("shape")? {
        Some(list) => list.into_iter().map(Dim::from).collect(),
        None => context.sizes_of(node.input(1, "shape")?, "shape")?,
    };
    let own = context.shape(x);
    let refuse = |shape: &[Dim], wanted: &str| {
        let list: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let found = format!("[{}] for {}", list.join(", "), context.ty(x));
        Problem::Operand {
            name: "shape",
            found,
            wanted: wanted.to_owned(),
        }
    };
    if !node.flag("allowzero", false)? {
        for axis in 0..shape.len() {
            if shape[axis].is(0) {
                let kept = own.get(axis).cloned();
                shape[axis] = kept.ok_or_else(|| refuse(&shape, "zeros for axes that exist"))?;
            }
        }
    }
    let mut inferred = shape.iter().enumerate().filter(|(_, dim)| dim.is(-1));
    match (inferred.next().map(|(axis, _)| axis), inferred.next()) {
        (None, _) => {}
        (Some(_), Some(_)) => return Err(refuse(&shape, "at most one -1")),
        (Some(axis), None) => {
            shape[axis] = Dim::from(1);
            let (all, others) = (product(&own), product(&shape));
            let left = match others.is(0) {
                true => None,
                false => all.exact_div(&others),
            };
            shape[axis] = match left {
                Some(left) => left,
                None if others.known().is_some() && all.known().is_some() => {
                    shape[axis] = Dim::from(-1);
                    return Err(refuse(&shape, "extents that divide the elements"));
                }
                None => {
                    let what = format!("({all}) / ({others}), the extent of axis {axis},");
                    return Err(symbolic(&what, &all));
                }
            };
        }
    }
    if shape
        .iter()
        .any(|dim| dim.known().is_some_and(|dim| dim < 0))
    {
        return Err(refuse(&shape, "extents of at least 0, or one -1"));
    }
    Ok(vec![context.reshape(x, shape)?])
}

pub(crate) fn squeeze(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    let shape = context.shape(x);
    let removed = match axes_given(context, node, 1)? {
        Some(list) => axes(&list, shape.len(), "axes")?,
        None => (0..shape.len()).filter(|&axis| shape[axis].is(1)).collect(),
    };
    if let Some(&axis) = removed.iter().find(|&&axis| !shape[axis].is(1)) {
        return Err(Problem::Operand {
            name: "data",
            found: format!(
                "{} with extent {} on axis {axis}",
                context.ty(x),
                shape[axis]
            ),
            wanted: "an extent of 1".to_owned(),
        });
    }
    let kept = shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| !removed.contains(axis));
    let kept = kept.map(|(_, dim)| dim.clone()).collect();
    Ok(vec![context.reshape(x, kept)?])
}

/// Inserts extents of 1; the axes count in the result.
pub(crate) fn unsqueeze(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "data")?;
    let list = axes_given(context, node, 1)?.ok_or(Problem::MissingOperand { name: "axes" })?;
    let rank = context.rank(x) + list.len();
    let inserted = axes(&list, rank, "axes")?;
    let mut own = context.shape(x).into_iter();
    let shape = (0..rank).map(|axis| match inserted.contains(&axis) {
        true => Dim::from(1),
        false => own.next().expect("as many as axes that are not inserted"),
    });
    let shape = shape.collect();
    Ok(vec![context.reshape(x, shape)?])
}
