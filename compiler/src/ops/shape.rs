//! Rules on shapes that operators share: broadcasting, axes, strides.
//!
//! Takes types and extents, gives types, indices or the constraint that fails.

use crate::graph::TensorType;
use crate::ops::Violation;
use crate::value::dim::Dim;
use crate::value::dtype::DType;

/// The shape to which both operands broadcast, by NumPy's rule: aligned at the last axis, an
/// extent of 1 stretches.
pub(crate) fn broadcast(
    constraint: &'static str,
    left: &[Dim],
    right: &[Dim],
) -> Result<Vec<Dim>, Violation> {
    let rank = left.len().max(right.len());
    let extent = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(own) => shape[own].clone(),
        None => Dim::from(1),
    };
    (0..rank)
        .map(|axis| {
            let (a, b) = (extent(left, axis), extent(right, axis));
            if a == b || b.is(1) {
                Ok(a)
            } else if a.is(1) {
                Ok(b)
            } else {
                let found = format!("extents {a} and {b} on axis {axis} of {rank}");
                Err(Violation::new(constraint, found, "equal extents or 1"))
            }
        })
        .collect()
}

/// Checks that both operands have one element type.
pub(crate) fn same_dtype(
    constraint: &'static str,
    operands: &[&TensorType],
) -> Result<DType, Violation> {
    let dtype = operands[0].dtype;
    match operands.iter().find(|operand| operand.dtype != dtype) {
        Some(other) => {
            let found = format!("{dtype} and {}", other.dtype);
            Err(Violation::new(constraint, found, "one element type"))
        }
        None => Ok(dtype),
    }
}

/// Checks that an operand's elements are floats.
pub(crate) fn float(constraint: &'static str, operand: &TensorType) -> Result<(), Violation> {
    Violation::unless(
        operand.dtype.is_float(),
        constraint,
        operand,
        "a floating-point type",
    )
}

/// Checks that an operand's elements are floats or integers.
pub(crate) fn numeric(constraint: &'static str, operand: &TensorType) -> Result<(), Violation> {
    let numeric = operand.dtype != DType::Bool;
    Violation::unless(numeric, constraint, operand, "a numeric type")
}

/// Checks that an operand's elements are truth values.
pub(crate) fn truth(constraint: &'static str, operand: &TensorType) -> Result<(), Violation> {
    Violation::unless(
        operand.dtype == DType::Bool,
        constraint,
        operand,
        "truth values",
    )
}

/// Checks that all operands have one floating-point element type.
pub(crate) fn one_float(
    constraint: &'static str,
    operands: &[&TensorType],
) -> Result<DType, Violation> {
    float(constraint, operands[0])?;
    same_dtype(constraint, operands)
}

/// Checks that an operand has exactly the extents `wanted`.
pub(crate) fn exact_shape(
    constraint: &'static str,
    operand: &TensorType,
    wanted: &[Dim],
) -> Result<(), Violation> {
    let ty = TensorType::new(operand.dtype, wanted.iter().cloned());
    Violation::unless(operand.shape == wanted, constraint, operand, ty)
}

/// Checks that an operand stretches to exactly the extents `wanted` by NumPy's rule.
pub(crate) fn stretches_to(
    constraint: &'static str,
    operand: &TensorType,
    wanted: &[Dim],
) -> Result<(), Violation> {
    let stretches = broadcast(constraint, &operand.shape, wanted)? == wanted;
    let ty = TensorType::new(operand.dtype, wanted.iter().cloned());
    let wanted = format_args!("a shape that broadcasts to {ty}");
    Violation::unless(stretches, constraint, operand, wanted)
}

/// The extents of an operand from axis `first` on, which must be known.
pub(crate) fn known_extents(
    constraint: &'static str,
    operand: &TensorType,
    first: usize,
) -> Result<Vec<usize>, Violation> {
    let extents = operand.shape[first..].iter().map(Dim::extent).collect();
    let wanted = || format!("known extents from axis {first} on");
    Option::ok_or_else(extents, || Violation::new(constraint, operand, wanted()))
}

/// Checks that an operand has exactly `rank` axes.
pub(crate) fn rank(
    constraint: &'static str,
    operand: &TensorType,
    rank: usize,
) -> Result<(), Violation> {
    Violation::unless(
        operand.rank() == rank,
        constraint,
        operand,
        format!("{rank} axes"),
    )
}

/// Checks that `axis` is one of the operand's.
pub(crate) fn axis(
    constraint: &'static str,
    operand: &TensorType,
    axis: usize,
) -> Result<(), Violation> {
    let found = format_args!("axis {axis} of {operand}");
    let holds = axis < operand.rank();
    Violation::unless(holds, constraint, found, "an axis of the operand")
}

/// Row-major strides in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides with which an operand of `shape` is read as if it had the shape `result`: 0 where it
/// is stretched.
pub(crate) fn broadcast_strides(shape: &[usize], result: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let missing = result.len() - shape.len();
    (0..result.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(axis) if shape[axis] != 1 => own[axis],
            Some(_) | None => 0,
        })
        .collect()
}

/// The offset of the element at `index`.
pub(crate) fn offset(index: &[usize], strides: &[usize]) -> usize {
    index
        .iter()
        .zip(strides)
        .map(|(i, stride)| i * stride)
        .sum()
}

/// Calls `visit` with every index of `shape` in row-major order.
pub(crate) fn each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let Some(axis) = (0..shape.len())
            .rev()
            .find(|&axis| index[axis] + 1 < shape[axis])
        else {
            return;
        };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// Checks that an operand's elements can be indices.
pub(crate) fn index_type(constraint: &'static str, operand: &TensorType) -> Result<(), Violation> {
    Violation::unless(
        matches!(operand.dtype, DType::I32 | DType::I64),
        constraint,
        operand,
        "indices of i32 or i64",
    )
}
