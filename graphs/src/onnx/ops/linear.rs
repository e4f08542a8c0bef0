//! `MatMul` and `Gemm`.
//!
//! Takes matrices, gives products; a `Gemm` that is a linear layer becomes one.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

pub(crate) fn matmul(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (a, b) = (node.input(0, "A")?, node.input(1, "B")?);
    Ok(vec![product(context, a, b)?])
}

/// A product of matrices. Vectors count as a row on the left and a column on the right, and vanish
/// from the result.
pub(super) fn product(context: &mut Context, mut a: Wire, mut b: Wire) -> Result<Wire> {
    let (row, column) = (context.rank(a) == 1, context.rank(b) == 1);
    if row {
        let shape = vec![Dim::from(1), context.shape(a)[0].clone()];
        a = context.reshape(a, shape)?;
    }
    if column {
        let shape = vec![context.shape(b)[0].clone(), Dim::from(1)];
        b = context.reshape(b, shape)?;
    }
    let mut result = context.push(ops::Matmul, &[a, b])?;
    if row || column {
        let mut shape = context.shape(result);
        let columns = shape.pop().expect("a product has two axes");
        let rows = shape.pop().expect("a product has two axes");
        shape.extend((!row).then_some(rows));
        shape.extend((!column).then_some(columns));
        result = context.reshape(result, shape)?;
    }
    Ok(result)
}

/// `alpha · A′ · B′ + beta · C`.
pub(crate) fn gemm(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (mut a, mut b) = (node.input(0, "A")?, node.input(1, "B")?);
    for (wire, name) in [(a, "A"), (b, "B")] {
        if context.rank(wire) != 2 {
            let (found, wanted) = (context.ty(wire).to_string(), "two axes".to_owned());
            return Err(Problem::Operand {
                name,
                found,
                wanted,
            });
        }
    }
    let (alpha, beta) = (node.float_or("alpha", 1.0)?, node.float_or("beta", 1.0)?);
    let (turn_a, turn_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    let c = node.optional(2);
    if turn_a {
        a = context.transpose(a, vec![1, 0])?;
    }
    let features = context.shape(b)[usize::from(!turn_b)].clone();
    let is_bias =
        |context: &Context, c: Wire| beta == 1.0 && context.shape(c) == [features.clone()];
    if turn_b && alpha == 1.0 && context.dtype(a).is_float() {
        match c {
            None => return Ok(vec![context.push(ops::Linear, &[a, b])?]),
            Some(c) if is_bias(context, c) => {
                return Ok(vec![context.push(ops::Linear, &[a, b, c])?]);
            }
            Some(_) => {}
        }
    }
    if turn_b {
        b = context.transpose(b, vec![1, 0])?;
    }
    let mut result = context.push(ops::Matmul, &[a, b])?;
    result = scaled(context, result, alpha)?;
    if let Some(c) = c {
        let c = scaled(context, c, beta)?;
        result = context.push(ops::Add, &[result, c])?;
    }
    Ok(vec![result])
}

/// `wire · factor`.
pub(super) fn scaled(context: &mut Context, wire: Wire, factor: f64) -> Result<Wire> {
    if factor == 1.0 {
        return Ok(wire);
    }
    let factor = context.scalar(context.dtype(wire), factor);
    context.push(ops::Mul, &[wire, factor])
}
