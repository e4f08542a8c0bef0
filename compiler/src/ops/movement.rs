//! What operators that only move elements share: picking elements out of operands.
//!
//! Takes positions, gives the elements found there in any element type; the operators keep the
//! arithmetic on indices in their own files. Computes nothing on elements.

use crate::graph::Value;
use crate::ops::Matmul;
use crate::ops::reverse::{Reverse, RuleError};
use crate::value::array::{Array, Fault};
use crate::value::tensor::Values;

/// The elements at `sources`, each an operand's number and a position in it; `None` stands for
/// zero, or false. All operands hold the same kind of values.
///
/// # Panics
/// When a position lies outside of its operand, or operands differ in kind: inference and the
/// callers' checks on indices exclude both.
pub(crate) fn pick(operands: &[&Array], sources: &[Option<(usize, usize)>]) -> Values {
    let pick = |source: &Option<(usize, usize)>| source.map(|(i, at)| (operands[i], at));
    let found = sources.iter().map(pick);
    match operands[0].values {
        Values::Bool(_) => Values::Bool(
            found
                .map(|source| source.is_some_and(|(array, at)| array.truths()[at]))
                .collect(),
        ),
        Values::Int(_) => Values::Int(
            found
                .map(|source| source.map_or(0, |(array, at)| array.ints()[at]))
                .collect(),
        ),
        Values::Float(_) => Values::Float(
            found
                .map(|source| source.map_or(0.0, |(array, at)| array.floats()[at]))
                .collect(),
        ),
    }
}

/// The products of the extents before and after `axis`; both 0 if one is, so that no loop runs
/// for elements that do not exist.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    match outer == 0 || inner == 0 {
        true => (0, 0),
        false => (outer, inner),
    }
}

/// The position that `index` means on an axis: negative counts from the end.
pub fn wrap_index(index: i64, extent: usize) -> Result<usize, Fault> {
    let fault = Fault::Index { index, extent };
    let length = i64::try_from(extent).map_err(|_| fault.clone())?;
    let position = if index < 0 { index + length } else { index };
    match usize::try_from(position) {
        Ok(position) if position < extent => Ok(position),
        Ok(_) | Err(_) => Err(fault),
    }
}

/// Elements of the matrix by which copies are summed, at most: images have axes of a few thousand
/// places, and memory for the square of a longer one is not to be asked for.
const MATRIX_MAX: usize = 1 << 26;

/// The gradient of a movement along one axis that repeats elements, or leaves some out: what was
/// copied from each of `extent` places to the places that `source` takes back to it, summed. It
/// is a product with a matrix of zeros and ones.
///
/// # Errors
/// When the axis is so long that the matrix would not fit in memory.
pub(crate) fn copies_summed(
    at: &mut Reverse<'_>,
    copies: Value,
    axis: usize,
    extent: usize,
    source: impl Fn(usize) -> usize,
) -> Result<Value, RuleError> {
    let shape = at.shape(copies);
    if shape[axis].saturating_mul(extent) > MATRIX_MAX {
        return at.unsupported("an axis is too long to sum what was copied along it");
    }
    let mut matrix = vec![0.0; shape[axis] * extent];
    for place in 0..shape[axis] {
        matrix[place * extent + source(place)] = 1.0;
    }
    let dtype = at.ty(copies).dtype;
    let matrix = at.tensor(dtype, &[shape[axis], extent], matrix)?;
    let last = shape.len() - 1;
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.swap(axis, last);
    let turned = at.transpose(copies, &order)?;
    let rows: usize = shape.iter().product::<usize>() / shape[axis].max(1);
    let flat = at.reshape(turned, &[rows, shape[axis]])?;
    let summed = at.push(Matmul, &[flat, matrix])?;
    let mut turned = shape;
    turned.swap(axis, last);
    turned[last] = extent;
    let summed = at.reshape(summed, &turned)?;
    at.transpose(summed, &order)
}
