//! Pointwise functions on runs of f32: the one table from names to loops.
//!
//! Takes what an operator is to a machine, gives the function that computes it on runs; loops are
//! compiled for the widest vectors of the machine.

use compiler::ops::Pointwise;
use compiler::ops::elementary::{Arithmetic, Elementary};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::math::{
    erf, exp, gelu_erf, gelu_quick, gelu_tanh, ln, map_into, max, min, sigmoid, silu, zip_into,
};

/// What an operator does to runs of equal length.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// Of one operand.
    Unary(fn(&mut [f32], &[f32])),
    /// Of two.
    Binary(fn(&mut [f32], &[f32], &[f32])),
}

/// The function of a pointwise operator whose operands and result are f32, f16 or bf16.
pub(crate) fn function(pointwise: Pointwise) -> Function {
    match pointwise {
        Pointwise::Unary(function) => Function::Unary(unary(function)),
        Pointwise::Binary(function) => Function::Binary(binary(function)),
    }
}

fn unary(function: Elementary) -> fn(&mut [f32], &[f32]) {
    match function {
        Elementary::Abs => |out, x| map_into(out, x, f32::abs),
        Elementary::Ceil => |out, x| map_into(out, x, f32::ceil),
        Elementary::Cos => |out, x| map_into(out, x, f32::cos),
        Elementary::Erf => |out, x| map_into(out, x, erf),
        Elementary::Exp => |out, x| map_into(out, x, exp),
        Elementary::Floor => |out, x| map_into(out, x, f32::floor),
        Elementary::GeluErf => |out, x| map_into(out, x, gelu_erf),
        Elementary::GeluQuick => |out, x| map_into(out, x, gelu_quick),
        Elementary::GeluTanh => |out, x| map_into(out, x, gelu_tanh),
        Elementary::Log => |out, x| map_into(out, x, ln),
        Elementary::NearestBf16 => |out, x| map_into(out, x, |x| bf16::from_f32(x).to_f32()),
        Elementary::NearestF16 => nearest_f16,
        Elementary::NearestF32 => <[f32]>::copy_from_slice,
        Elementary::Neg => |out, x| map_into(out, x, |x| -x),
        Elementary::Round => |out, x| map_into(out, x, f32::round_ties_even),
        Elementary::Sigmoid => |out, x| map_into(out, x, sigmoid),
        Elementary::Silu => |out, x| map_into(out, x, silu),
        Elementary::Sin => |out, x| map_into(out, x, f32::sin),
        Elementary::Sqrt => |out, x| map_into(out, x, f32::sqrt),
        Elementary::Tanh => |out, x| map_into(out, x, f32::tanh),
    }
}

fn binary(function: Arithmetic) -> fn(&mut [f32], &[f32], &[f32]) {
    match function {
        Arithmetic::Add => |out, a, b| zip_into(out, a, b, |a, b| a + b),
        Arithmetic::Div => |out, a, b| zip_into(out, a, b, |a, b| a / b),
        Arithmetic::Max => |out, a, b| zip_into(out, a, b, max),
        Arithmetic::Min => |out, a, b| zip_into(out, a, b, min),
        Arithmetic::Mul => |out, a, b| zip_into(out, a, b, |a, b| a * b),
        Arithmetic::Pow => |out, a, b| zip_into(out, a, b, f32::powf),
        Arithmetic::Sub => |out, a, b| zip_into(out, a, b, |a, b| a - b),
    }
}

fn nearest_f16(out: &mut [f32], x: &[f32]) {
    let mut halves = [f16::ZERO; 512];
    for (out, x) in out.chunks_mut(512).zip(x.chunks(512)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        halves.convert_to_f32_slice(out);
    }
}
