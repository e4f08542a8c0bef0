//! What reductions share: types, and which elements fold into which.
//!
//! Takes axes, gives inference and evaluation; the operators keep their formulas in their own
//! files.

use crate::graph::TensorType;
use crate::ops::Violation;
use crate::ops::shape::{each_index, offset, strides};
use crate::value::dim::Dim;

/// The type after folding `axes`, which are sorted, distinct and the operand's (C1); kept axes
/// have extent 1.
pub(crate) fn infer(
    operand: &TensorType,
    axes: &[usize],
    keep: bool,
) -> Result<TensorType, Violation> {
    let sorted = axes.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = axes.last().is_none_or(|&last| last < operand.rank());
    let found = format_args!("axes {axes:?} of {operand}");
    let wanted = "sorted and distinct axes of the operand";
    Violation::unless(sorted && inside, "C1", found, wanted)?;
    let extents = operand.shape.iter().enumerate();
    let extents = extents.filter_map(|(axis, extent)| match (axes.contains(&axis), keep) {
        (false, _) => Some(extent.clone()),
        (true, true) => Some(Dim::from(1)),
        (true, false) => None,
    });
    Ok(TensorType::new(operand.dtype, extents))
}

/// Folds the elements of each group that shares an element of the result, in row-major order,
/// starting from `start`.
pub(crate) fn fold<T: Copy>(
    shape: &[usize],
    axes: &[usize],
    values: &[T],
    start: T,
    step: impl Fn(T, T) -> T,
) -> Vec<T> {
    let kept = |axis: usize| !axes.contains(&axis);
    let extent = |axis: usize| if kept(axis) { shape[axis] } else { 1 };
    let extents: Vec<usize> = (0..shape.len()).map(extent).collect();
    let mut to = strides(&extents);
    axes.iter().for_each(|&axis| to[axis] = 0);
    let mut folded = vec![start; extents.iter().product()];
    let mut position = 0;
    each_index(shape, |index| {
        let group = &mut folded[offset(index, &to)];
        *group = step(*group, values[position]);
        position += 1;
    });
    folded
}
