//! Pointwise kernels: one operand, two that broadcast, and the gated unit.
//!
//! Takes functions of elements, gives results in the memory of a dying operand where there is one.

use compiler::ops::Extents;

use super::math::{gelu_erf, map_in_place, vectorized};
use super::movement::{BLOCK, Strided, broadcast, zip_strided};
use super::threads::{chunks, each};
use super::value::Value;

/// `f` of every element.
pub(crate) fn map(mut operands: Vec<Value>, f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = operands.remove(0).take();
    each(chunks(&mut out, BLOCK), |(_, block)| {
        map_in_place(block, &f);
    });
    out
}

/// `f` of every pair of elements of two operands that broadcast.
pub(crate) fn zip(
    mut operands: Vec<Value>,
    result: &Extents,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Vec<f32> {
    let (right, left) = (operands.remove(1), operands.remove(0));
    let fits = |value: &Value| value.shape == result.shape;
    let in_right = fits(&right) && (!fits(&left) || (right.is_unique() && !left.is_unique()));
    if in_right {
        return combine(right.take(), &left, result, |b, a| f(a, b));
    }
    let out = match fits(&left) {
        true => left.take(),
        false => broadcast(&left, result),
    };
    combine(out, &right, result, f)
}

fn combine(
    mut out: Vec<f32>,
    other: &Value,
    result: &Extents,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Vec<f32> {
    let other = Strided::stretched(other.floats(), &other.shape, &result.shape);
    zip_strided(&mut out, &result.shape, &other, f);
    out
}

/// `x[…, i] · gelu(x[…, c + i])` for a result `[…, c]`.
pub(crate) fn geglu(operands: &[Value], result: &Extents) -> Vec<f32> {
    let (x, half) = (operands[0].floats(), result.shape[result.shape.len() - 1]);
    let mut out = vec![0.0; result.elements()];
    let rows = BLOCK.div_ceil(half.max(1));
    each(chunks(&mut out, rows * half), |(index, block)| {
        let x = &x[index * rows * half * 2..];
        for (row, out) in block.chunks_mut(half).enumerate() {
            let (value, gate) = x[row * half * 2..][..half * 2].split_at(half);
            vectorized(|| {
                for ((out, x), gate) in out.iter_mut().zip(value).zip(gate) {
                    *out = x * gelu_erf(*gate);
                }
            });
        }
    });
    out
}
