//! Inputs and weights for a measurement: right shapes, plausible values, the same every time.
//!
//! Takes a program, returns a tensor for each input or each weight. The values mean nothing.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::{Definition, Func, Role, TensorType, Value};
use compiler::ops::Op;
use compiler::program::Program;
use compiler::value::tensor::{Tensor, Values};
use runtime::noise::{Generator, Noise};

/// Seed of all values.
const SEED: u64 = 0;

/// Normals drawn; larger tensors repeat them.
const DRAWN: usize = 1 << 16;

/// The middle of the timesteps that networks are trained on.
const TIMESTEP: i64 = 500;

/// A tensor for each input of `program`: those in `given`, and others beside them.
pub(super) fn make(program: &Program, given: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let func = program.func();
    let normals = normals();
    let input = |(value, name, ty): (Value, &str, &TensorType)| {
        let tensor = match (name, ty.dtype.is_float()) {
            ("timestep", _) => numbers(ty, |_| TIMESTEP as f64),
            (_, true) => numbers(ty, |i| f64::from(normals[i % DRAWN])),
            (_, false) => {
                let bound = index_bound(func, value).unwrap_or(2);
                // A stride that visits rows all over the table.
                numbers(ty, |i| (i * 7919 % bound) as f64)
            }
        };
        (name.to_owned(), tensor)
    };
    let missing = func.params(Role::Input);
    let missing = missing.filter(|(_, name, _)| !given.contains_key(*name));
    let made: Vec<(String, Tensor)> = missing.map(input).collect();
    given.into_iter().chain(made).collect()
}

/// A random tensor for each weight of `program`: matrices keep the size of what they multiply,
/// vectors (scales and shifts) are 1.
pub(super) fn weights(program: &Program) -> BTreeMap<String, Tensor> {
    let normals = normals();
    let weight = |(_, name, ty): (Value, &str, &TensorType)| {
        let shape = ty.extents().expect("a program has known sizes");
        let tensor = match shape.len() {
            0 | 1 => numbers(ty, |_| 1.0),
            _ => {
                let summed: usize = shape[1..].iter().product();
                let scale = 1.0 / (summed.max(1) as f64).sqrt();
                numbers(ty, |i| f64::from(normals[i % DRAWN]) * scale)
            }
        };
        (name.to_owned(), tensor)
    };
    program.func().params(Role::Weight).map(weight).collect()
}

fn normals() -> Vec<f32> {
    let noise = Noise::new(Generator::Philox, SEED, [1, 1, 1, DRAWN]);
    noise.expect("the shape is small").draw()
}

/// A tensor of `ty` whose element `i` is `number(i)`.
fn numbers(ty: &TensorType, number: impl Fn(usize) -> f64) -> Tensor {
    let shape = ty.extents().expect("a program has known sizes");
    let elements = 0..shape.iter().product();
    if ty.dtype == DType::F32 {
        let floats: Vec<f32> = elements.map(|i| number(i) as f32).collect();
        return Tensor::from_f32(&shape, &floats);
    }
    let values = match ty.dtype {
        DType::Bool => Values::Bool(elements.map(|_| true).collect()),
        DType::U8 | DType::I8 | DType::I32 | DType::I64 => {
            Values::Int(elements.map(|i| number(i) as i64).collect())
        }
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
            Values::Float(elements.map(number).collect())
        }
    };
    Tensor::from_values(ty.dtype, &shape, &values)
}

/// The fewest entries of the tables in which `input` is looked up: token ids stay below.
fn index_bound(func: &Func, input: Value) -> Option<usize> {
    let mut same = vec![input];
    let mut bound: Option<usize> = None;
    for (value, data) in func.values() {
        let Definition::Node(node) = &data.definition else {
            continue;
        };
        let reads = |operand: usize| {
            let operand = node.operands.get(operand);
            operand.is_some_and(|operand| same.contains(operand))
        };
        if let Op::Cast(_) | Op::Reshape(_) = &node.op
            && reads(0)
        {
            same.push(value);
        } else if let Op::Gather(gather) = &node.op
            && reads(1)
        {
            let entries = func.ty(node.operands[0]).shape[gather.axis].extent();
            bound = bound.into_iter().chain(entries).min();
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_fit_what_reads_them() {
        let text = r#"func f {
  %0 = input "input_ids" : i32[1, 4]
  %1 = input "timestep" : i64[1]
  %2 = input "sample" : f32[2, 2]
  %3 = weight "table" : f32[5, 2]
  %4 = weight "scale" : f32[2]
  %5 = cast(%0) {dtype = i64}
  %6 = gather(%3, %5) {axis = 0}
  return "y" %6
}
"#;
        let program = Program::parse(text).expect("the text is a program");
        let inputs = make(&program, BTreeMap::new());
        let Values::Int(ids) = inputs["input_ids"].values() else {
            panic!("token ids are whole numbers");
        };
        assert!(ids.iter().all(|id| (0..5).contains(id)), "{ids:?}");
        assert_eq!(inputs["timestep"].values(), Values::Int(vec![TIMESTEP]));
        assert_eq!(inputs["sample"].not_finite(), 0);
        let weights = weights(&program);
        assert_eq!(weights["scale"].values(), Values::Float(vec![1.0; 2]));
        assert_eq!(weights["table"].shape(), [5, 2]);
    }
}
