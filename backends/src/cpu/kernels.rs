//! Which kernel executes which operator: the one table.
//!
//! Takes an operator and the values of its operands, gives its result. What has no kernel, and
//! every operator on f64, integers and truth values, runs in the oracle.

use compiler::eval::{Array, Fault};
use compiler::ops::{Extents, Gelu, GeluForm, Op, Pad, PadMode, Softmax};

use super::math::{exp, gelu_erf, gelu_quick, gelu_tanh, max, min, sigmoid, silu};
use super::pointwise::{geglu, map, zip};
use super::rows::{Reduction, reduce};
use super::value::{Value, narrow, round};
use super::{attention, contract, conv, movement, rows};

/// Executes `op`.
///
/// # Errors
/// When the data lies outside of the operator's domain.
pub(crate) fn apply(op: &Op, mut operands: Vec<Value>, result: &Extents) -> Result<Value, Fault> {
    if let Op::Reshape(_) = op {
        let Value { data, .. } = operands.remove(0);
        let shape = result.shape.clone();
        return Ok(Value { shape, data });
    }
    let fast = narrow(result.dtype) && operands.first().is_some_and(Value::is_narrow);
    let operands = match fast {
        true => match floats(op, operands, result)? {
            Computed::Floats(mut floats) => {
                round(&mut floats, result.dtype);
                return Ok(Value::owned(result.shape.clone(), floats));
            }
            Computed::Not(operands) => operands,
        },
        false => operands,
    };
    let arrays: Vec<Array> = operands.iter().map(Value::array).collect();
    let arrays: Vec<&Array> = arrays.iter().collect();
    Ok(Value::computed(op.eval(&arrays, result)?, result))
}

/// What the kernels make of an operator.
enum Computed {
    /// Its result, not yet rounded to its type.
    Floats(Vec<f32>),
    /// Nothing: the operands, for the oracle.
    Not(Vec<Value>),
}

/// Executes `op` on a float of 32 bits or less for a result of that kind, if it has a kernel.
fn floats(op: &Op, operands: Vec<Value>, result: &Extents) -> Result<Computed, Fault> {
    let kernel = match op {
        Op::Abs(_) => map(operands, f32::abs),
        Op::Add(_) => zip(operands, result, |a, b| a + b),
        Op::Attention(op) => attention::attention(op, &operands, result),
        Op::Broadcast(_) => movement::broadcast(&operands[0], result),
        Op::Cast(_) => map(operands, |x| x),
        Op::Ceil(_) => map(operands, f32::ceil),
        Op::Concat(op) => movement::concat(&operands, op.axis, result),
        Op::Conv(op) => return Ok(or_oracle(conv::conv(op, &operands, result), operands)),
        Op::Cos(_) => map(operands, f32::cos),
        Op::Div(_) => zip(operands, result, |a, b| a / b),
        Op::Exp(_) => map(operands, exp),
        Op::Floor(_) => map(operands, f32::floor),
        Op::Gather(op) => movement::gather(&operands[0], operands[1].ints(), op.axis, result)?,
        Op::Geglu(_) => geglu(&operands, result),
        Op::Gelu(Gelu { form }) => match form {
            GeluForm::Erf => map(operands, gelu_erf),
            GeluForm::Tanh => map(operands, gelu_tanh),
            GeluForm::Quick => map(operands, gelu_quick),
        },
        Op::GroupNorm(op) => rows::group_norm(op, operands),
        Op::LayerNorm(op) => rows::layer_norm(op, operands),
        Op::Linear(_) => contract::linear(&operands, result),
        Op::Matmul(_) => contract::matmul(&operands, result),
        Op::Max(_) => zip(operands, result, max),
        Op::Min(_) => zip(operands, result, min),
        Op::Mul(_) => zip(operands, result, |a, b| a * b),
        Op::Neg(_) => map(operands, |x| -x),
        Op::Pad(
            op @ Pad {
                mode: PadMode::Constant,
                ..
            },
        ) => {
            let value = operands.get(1).map_or(0.0, |value| value.floats()[0]);
            movement::pad_constant(op, &operands[0], value, result)
        }
        Op::Pow(_) => zip(operands, result, f32::powf),
        Op::Reciprocal(_) => map(operands, |x| 1.0 / x),
        Op::ReduceMax(op) => {
            let reduced = reduce(Reduction::Max, &operands[0], &op.axes, result);
            return Ok(or_oracle(reduced, operands));
        }
        Op::ReduceMean(op) => {
            let reduced = reduce(Reduction::Mean, &operands[0], &op.axes, result);
            return Ok(or_oracle(reduced, operands));
        }
        Op::ReduceSum(op) => {
            let reduced = reduce(Reduction::Sum, &operands[0], &op.axes, result);
            return Ok(or_oracle(reduced, operands));
        }
        Op::Relu(_) => map(operands, |x| max(x, 0.0)),
        Op::Sigmoid(_) => map(operands, sigmoid),
        Op::Silu(_) => map(operands, silu),
        Op::Sin(_) => map(operands, f32::sin),
        Op::Slice(op) => {
            let sliced = movement::slice(op, &operands[0], result);
            return Ok(or_oracle(sliced, operands));
        }
        Op::Softmax(Softmax { axis }) if axis + 1 == result.shape.len() => {
            rows::softmax(operands, result.shape[*axis])
        }
        Op::Sqrt(_) => map(operands, f32::sqrt),
        Op::Sub(_) => zip(operands, result, |a, b| a - b),
        Op::Tanh(_) => map(operands, f32::tanh),
        Op::Transpose(op) => movement::transpose(&operands[0], &op.permutation, result),
        Op::UpsampleNearest(_) => movement::upsample_nearest(&operands[0], result),
        Op::And(_)
        | Op::Argmax(_)
        | Op::AveragePool(_)
        | Op::Constant(_)
        | Op::Cumsum(_)
        | Op::Equal(_)
        | Op::Erf(_)
        | Op::GatherNd(_)
        | Op::Iota(_)
        | Op::IsNan(_)
        | Op::Less(_)
        | Op::LessEqual(_)
        | Op::Not(_)
        | Op::Or(_)
        | Op::Pad(_)
        | Op::Reshape(_)
        | Op::ScatterNd(_)
        | Op::Select(_)
        | Op::Softmax(_)
        | Op::Trilu(_) => return Ok(Computed::Not(operands)),
    };
    Ok(Computed::Floats(kernel))
}

fn or_oracle(computed: Option<Vec<f32>>, operands: Vec<Value>) -> Computed {
    match computed {
        Some(floats) => Computed::Floats(floats),
        None => Computed::Not(operands),
    }
}
