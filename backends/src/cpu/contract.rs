//! Matrix products: linear layers and batched products.
//!
//! Takes values, gives buffers; shapes are as the operators inferred them.

use compiler::ops::Extents;

use super::gemm::{Into, Matrix, On, gemm};
use super::threads::{chunks, current, each};
use super::value::Value;

/// `x · wᵀ + bias` for `x` `[…, k]`, `w` `[n, k]`, `bias` `[n]`.
pub(crate) fn linear(operands: &[Value], result: &Extents) -> Vec<f32> {
    let (n, k) = (operands[1].shape[0], operands[1].shape[1]);
    let mut out = vec![0.0; result.elements()];
    let m = out.len() / n.max(1);
    let into = match operands.get(2) {
        Some(bias) => {
            let rows = out.chunks_exact_mut(n.max(1));
            rows.for_each(|row| row.copy_from_slice(bias.floats()));
            Into::Add
        }
        None => Into::Replace,
    };
    let x = Matrix::rows(operands[0].floats(), k);
    let w = Matrix::columns(operands[1].floats(), k);
    gemm([m, n, k], (&mut out, n), x, w, into, On::Pool);
    out
}

/// `a · b` over the last two axes; the leading ones broadcast.
pub(crate) fn matmul(operands: &[Value], result: &Extents) -> Vec<f32> {
    let (a, b) = (&operands[0], &operands[1]);
    let rank = result.shape.len();
    let (batch, m, n) = (
        &result.shape[..rank - 2],
        result.shape[rank - 2],
        result.shape[rank - 1],
    );
    let k = a.shape[a.shape.len() - 1];
    let mut out = vec![0.0; result.elements()];
    let products = chunks(&mut out, m * n);
    let on = match products.len() > current() {
        true => On::Caller,
        false => On::Pool,
    };
    let product = |(index, out): (usize, &mut [f32])| {
        let a = &a.floats()[matrix_of(index, batch, &a.shape) * m * k..][..m * k];
        let b = &b.floats()[matrix_of(index, batch, &b.shape) * k * n..][..k * n];
        let (a, b) = (Matrix::rows(a, k), Matrix::rows(b, n));
        gemm([m, n, k], (out, n), a, b, Into::Replace, on);
    };
    match on {
        On::Caller => each(products, product),
        On::Pool => products.into_iter().for_each(product),
    }
    out
}

/// The number of the matrix in an operand of `shape` that product `index` of the broadcast
/// `batch` reads.
fn matrix_of(mut index: usize, batch: &[usize], shape: &[usize]) -> usize {
    let own = &shape[..shape.len() - 2];
    let (mut number, mut stride) = (0, 1);
    for (axis, extent) in batch.iter().enumerate().rev() {
        let at = index % extent;
        index /= extent;
        if let Some(axis) = (axis + own.len()).checked_sub(batch.len()) {
            number += if own[axis] == 1 { 0 } else { at * stride };
            stride *= own[axis];
        }
    }
    number
}
