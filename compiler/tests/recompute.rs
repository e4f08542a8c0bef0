//! Recomputation: the same results from less memory.

use std::collections::BTreeMap;

use compiler::DType;
use compiler::graph::autodiff::backward;
use compiler::graph::{Builder, Func, Role, TensorType, Value};
use compiler::ops::{Linear, ReduceSum, Silu, StopGradient};
use compiler::plan::recompute;
use compiler::region::{self, Regions, form};
use compiler::target::Target;
use compiler::value::array::Precision;
use compiler::value::tensor::Tensor;
/// Tensors by their names.
type Named = BTreeMap<String, Tensor>;

/// The loss of `layers` linear layers with SiLU between them, and its gradients.
fn perceptron(layers: usize) -> Func {
    let mut builder = Builder::new("perceptron");
    let ty = |shape: [usize; 2]| TensorType::new(DType::F32, shape);
    let mut built = || {
        let mut x = builder.input("x", ty([64, 32]))?;
        let mut weights = Vec::new();
        for layer in 0..layers {
            weights.push(builder.weight(&format!("w{layer}"), ty([32, 32]))?);
            x = builder.push(Linear, &[x, weights[layer]])?;
            x = builder.push(Silu, &[x])?;
        }
        let axes = vec![0, 1];
        let loss = builder.push(ReduceSum { axes, keep: false }, &[x])?;
        Ok::<(Value, Vec<Value>), compiler::graph::GraphError>((loss, weights))
    };
    let (loss, weights) = built().expect("layers that fit");
    let gradients = backward(&mut builder, loss, &weights).expect("a differentiable function");
    for (layer, gradient) in gradients.into_iter().enumerate() {
        let named = builder.result(&format!("grad.w{layer}"), gradient);
        named.expect("distinct names");
    }
    builder.finish()
}

fn made_up(func: &Func, role: Role) -> Named {
    let params = func.params(role);
    let tensor = |(value, name, ty): (Value, &str, &TensorType)| {
        let shape = ty.extents().expect("known sizes");
        let count: usize = shape.iter().product();
        let number = |i: usize| ((i * 37 + value.0 as usize * 11) % 19) as f32 / 19.0 - 0.5;
        let values: Vec<f32> = (0..count).map(number).collect();
        (name.to_owned(), Tensor::from_f32(&shape, &values))
    };
    params.map(tensor).collect()
}

fn formed(func: &Func) -> Regions {
    form(func).expect("a function of known sizes").regions
}

#[test]
fn half_the_memory_gives_the_same_gradients() {
    let func = perceptron(8);
    let regions = formed(&func);
    let whole = recompute(&regions, u64::MAX, &Target::CPU);
    assert_eq!((&whole.regions, whole.chosen.len()), (&regions, 0));
    let half = recompute(&regions, whole.bytes_before * 6 / 10, &Target::CPU);
    assert!(half.bytes <= whole.bytes_before * 6 / 10, "{half:?}");
    assert!(!half.chosen.is_empty());
    region::verify(&half.regions).expect("regions that keep the rules");
    let (inputs, weights) = (made_up(&func, Role::Input), made_up(&func, Role::Weight));
    let run = |regions: &Regions| region::eval(regions, &inputs, &weights, Precision::Typed);
    assert_eq!(run(&half.regions), run(&regions));
}

#[test]
fn what_cannot_be_reached_is_said() {
    let regions = formed(&perceptron(4));
    let least = recompute(&regions, 1, &Target::CPU);
    assert!(least.bytes > 1 && least.bytes < least.bytes_before);
    region::verify(&least.regions).expect("regions that keep the rules");
}

#[test]
fn nothing_is_learnt_behind_a_stop() {
    let mut builder = Builder::new("stopped");
    let x = builder
        .input("x", TensorType::new(DType::F32, [2]))
        .expect("a type");
    let stopped = builder.push(StopGradient, &[x]).expect("any type");
    let axes = vec![0];
    let loss = builder.push(ReduceSum { axes, keep: false }, &[stopped]);
    let loss = loss.expect("an axis of two");
    let gradient = backward(&mut builder, loss, &[x]).expect("a scalar loss")[0];
    builder.result("grad.x", gradient).expect("a name");
    let func = builder.finish();
    let results = compiler::graph::eval::eval(
        &func,
        &made_up(&func, Role::Input),
        &Named::new(),
        Precision::Typed,
    );
    let values = results.expect("an input")[0].1.values.clone();
    assert_eq!(values, compiler::value::tensor::Values::Float(vec![0.0; 2]));
}
