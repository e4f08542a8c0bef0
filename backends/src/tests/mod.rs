//! One suite for every backend: operators one by one and fused regions in every layout, against the
//! oracle.

mod operators;
mod regions;
mod states;
mod tensor_cores;

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::eval::eval;
use compiler::graph::text::parse;
use compiler::graph::{Func, Role, TensorType};
use compiler::program::Program;
use compiler::value::array::Precision;
use compiler::value::tensor::{Tensor, Values};

pub(crate) type Named = BTreeMap<String, Tensor>;

/// A tensor of numbers that look random: floats in [-2, 2), integers and truth values in 0..2.
/// Weights of several axes are smaller, so that sums of products keep the size of their factors.
pub(crate) fn noise(ty: &TensorType, seed: u64, role: Role) -> Tensor {
    let shape = ty.extents().expect("known sizes");
    let count: usize = shape.iter().product();
    let summed: usize = match (role, shape.len()) {
        (Role::Input | Role::State, _) | (Role::Weight, 0 | 1) => 1,
        (Role::Weight, _) => shape[1..].iter().product(),
    };
    let size = 1.0 / (summed.max(1) as f64).sqrt();
    let bits = |i: usize| {
        let mixed = (i as u64 + 1 + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40
    };
    let values = match ty.dtype.is_float() {
        true => Values::Float(
            (0..count)
                .map(|i| (bits(i) as f64 / f64::from(1 << 22) - 2.0) * size)
                .collect(),
        ),
        false => Values::Int((0..count).map(|i| (bits(i) % 2) as i64).collect()),
    };
    Tensor::from_values(ty.dtype, &shape, &values)
}

pub(crate) fn func(text: &str) -> Func {
    let module = parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    module.funcs.into_iter().next().expect("one function")
}

pub(crate) fn program(text: &str) -> Program {
    Program::new(func(text)).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

pub(crate) fn params(func: &Func, role: Role) -> Named {
    let named = func.params(role).enumerate();
    let number = |i: usize| i as u64 + 100 * u64::from(role == Role::Weight);
    named
        .map(|(i, (_, name, ty))| (name.to_owned(), noise(ty, number(i), role)))
        .collect()
}

/// One rounding to a type of 16 bits, relative to the largest magnitude.
pub(crate) fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        DType::F32 | DType::F64 => 0.0,
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => 0.0,
    }
}

/// What differs between results and those of the oracle, if more does than `tolerance`, relative
/// to the largest magnitude of each, with infinities and NaN in the same places.
pub(crate) fn difference(
    program: &Program,
    inputs: &Named,
    found: &[(String, Tensor)],
    tolerance: f64,
) -> Option<String> {
    let weights = params(program.func(), Role::Weight);
    let wanted = eval(program.func(), inputs, &weights, Precision::Typed).expect("the oracle runs");
    for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
        let Values::Float(wanted) = &wanted.values else {
            if found.values() != wanted.values {
                return Some(format!(
                    "{name}: {:?}, wanted {:?}",
                    found.values(),
                    wanted.values
                ));
            }
            continue;
        };
        let Values::Float(found) = found.values() else {
            return Some(format!("{name} is not of floats"));
        };
        let finite = wanted.iter().filter(|x| x.is_finite());
        let most = finite.fold(0.0, |most: f64, x| most.max(x.abs()));
        if found.len() != wanted.len() {
            return Some(format!("{name} has {} elements", found.len()));
        }
        for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            let same = found == wanted || (found.is_nan() && wanted.is_nan());
            let close = (found - wanted).abs() <= tolerance * most;
            if !same && !close {
                return Some(format!("{name}[{i}] is {found}, wanted {wanted} of {most}"));
            }
        }
    }
    None
}
