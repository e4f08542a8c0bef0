//! Pointwise functions on runs of f32: the one table from operators to loops.
//!
//! Takes an operator, gives the function that computes it on runs; loops are compiled for the
//! widest vectors of the machine.

use compiler::DType;
use compiler::ops::{Cast, Gelu, GeluForm, Op};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::math::{
    exp, gelu_erf, gelu_quick, gelu_tanh, ln, map_into, max, min, sigmoid, silu, zip_into,
};

/// What an operator does to runs of equal length.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// Of one operand.
    Unary(fn(&mut [f32], &[f32])),
    /// Of two.
    Binary(fn(&mut [f32], &[f32], &[f32])),
}

/// The function of a pointwise operator whose operands and result are f32, f16 or bf16; `None`
/// for operators on other types.
pub(crate) fn function(op: &Op) -> Option<Function> {
    use Function::{Binary, Unary};
    let function = match op {
        Op::Abs(_) => Unary(|out, x| map_into(out, x, f32::abs)),
        Op::Add(_) => Binary(|out, a, b| zip_into(out, a, b, |a, b| a + b)),
        Op::Cast(Cast { dtype }) => match dtype {
            DType::F16 => Unary(round_f16),
            DType::BF16 => Unary(|out, x| map_into(out, x, |x| bf16::from_f32(x).to_f32())),
            DType::F32 => Unary(<[f32]>::copy_from_slice),
            DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F64 => {
                return None;
            }
        },
        Op::Ceil(_) => Unary(|out, x| map_into(out, x, f32::ceil)),
        Op::Cos(_) => Unary(|out, x| map_into(out, x, f32::cos)),
        Op::Div(_) => Binary(|out, a, b| zip_into(out, a, b, |a, b| a / b)),
        Op::Erf(_) => Unary(|out, x| map_into(out, x, super::math::erf)),
        Op::Exp(_) => Unary(|out, x| map_into(out, x, exp)),
        Op::Floor(_) => Unary(|out, x| map_into(out, x, f32::floor)),
        Op::Gelu(Gelu { form }) => match form {
            GeluForm::Erf => Unary(|out, x| map_into(out, x, gelu_erf)),
            GeluForm::Tanh => Unary(|out, x| map_into(out, x, gelu_tanh)),
            GeluForm::Quick => Unary(|out, x| map_into(out, x, gelu_quick)),
        },
        Op::Log(_) => Unary(|out, x| map_into(out, x, ln)),
        Op::Max(_) => Binary(|out, a, b| zip_into(out, a, b, max)),
        Op::Min(_) => Binary(|out, a, b| zip_into(out, a, b, min)),
        Op::Mul(_) => Binary(|out, a, b| zip_into(out, a, b, |a, b| a * b)),
        Op::Neg(_) => Unary(|out, x| map_into(out, x, |x| -x)),
        Op::Pow(_) => Binary(|out, a, b| zip_into(out, a, b, f32::powf)),
        Op::Reciprocal(_) => Unary(|out, x| map_into(out, x, |x| 1.0 / x)),
        Op::Relu(_) => Unary(|out, x| map_into(out, x, |x| max(x, 0.0))),
        Op::Sigmoid(_) => Unary(|out, x| map_into(out, x, sigmoid)),
        Op::Silu(_) => Unary(|out, x| map_into(out, x, silu)),
        Op::Sin(_) => Unary(|out, x| map_into(out, x, f32::sin)),
        Op::Sqrt(_) => Unary(|out, x| map_into(out, x, f32::sqrt)),
        Op::Sub(_) => Binary(|out, a, b| zip_into(out, a, b, |a, b| a - b)),
        Op::Tanh(_) => Unary(|out, x| map_into(out, x, f32::tanh)),
        Op::And(_)
        | Op::Argmax(_)
        | Op::Attention(_)
        | Op::AttentionGradient(_)
        | Op::AttentionLogSum(_)
        | Op::AveragePool(_)
        | Op::Broadcast(_)
        | Op::Call(_)
        | Op::Concat(_)
        | Op::Constant(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::ConvWeightGradient(_)
        | Op::Cumsum(_)
        | Op::Dot(_)
        | Op::Equal(_)
        | Op::Gather(_)
        | Op::GatherNd(_)
        | Op::Geglu(_)
        | Op::GroupNorm(_)
        | Op::GroupStatistics(_)
        | Op::Iota(_)
        | Op::IsNan(_)
        | Op::LayerNorm(_)
        | Op::Less(_)
        | Op::LessEqual(_)
        | Op::Linear(_)
        | Op::Matmul(_)
        | Op::Not(_)
        | Op::Or(_)
        | Op::Pad(_)
        | Op::ReduceMax(_)
        | Op::ReduceMean(_)
        | Op::ReduceSum(_)
        | Op::Reshape(_)
        | Op::ScatterNd(_)
        | Op::Select(_)
        | Op::Slice(_)
        | Op::Softmax(_)
        | Op::StopGradient(_)
        | Op::Transpose(_)
        | Op::Trilu(_)
        | Op::UpsampleNearest(_) => return None,
    };
    Some(function)
}

fn round_f16(out: &mut [f32], x: &[f32]) {
    let mut halves = [f16::ZERO; 512];
    for (out, x) in out.chunks_mut(512).zip(x.chunks(512)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        halves.convert_to_f32_slice(out);
    }
}
