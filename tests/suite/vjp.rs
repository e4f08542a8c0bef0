//! Gradients of single operators against PyTorch's in f64: by the oracle in f64, and as each
//! executor computes them in f32 after every pass.

use std::fs;

use compiler::Bindings;
use compiler::graph::autodiff::backward;
use compiler::graph::eval::eval;
use compiler::graph::text::parse;
use compiler::graph::{Builder, Func, Role, Value};
use compiler::ops::Dot;
use compiler::program::compile;
use compiler::value::array::{Array, Precision};

use crate::executors::{Named, executors};
use crate::support::{golden, tensors};

/// Relative error, by Euclidean norms, of f32 results; PyTorch's own f32 is off by 6e-7 at most.
const TOLERANCE: f64 = 1e-5;

/// Of f64 results: what rounding the golden numbers to f32 leaves.
const TOLERANCE_EXACT: f64 = 2e-7;

/// `func` with the gradients of `Σ out · ct` with respect to its inputs that have a golden one.
fn differentiated(func: &Func, golden: &Named) -> Func {
    let name = func.name();
    let mut builder = Builder::resume(func.clone());
    let out = func.results()[0].1;
    let ct = builder.constant(golden[&format!("{name}/ct")].clone());
    let axes = (0..func.ty(out).rank()).collect();
    let ct = ct.expect("a constant");
    let loss = builder.push(Dot { axes, keep: false }, &[out, ct]);
    let params: Vec<(Value, String)> = func
        .params(Role::Input)
        .map(|(value, own, _)| (value, own.to_owned()))
        .filter(|(_, own)| golden.contains_key(&format!("{name}/grad.{own}")))
        .collect();
    let values: Vec<Value> = params.iter().map(|(value, _)| *value).collect();
    let gradients = backward(
        &mut builder,
        loss.expect("a result like its cotangent"),
        &values,
    );
    let gradients = gradients.unwrap_or_else(|error| panic!("{name}: {error}"));
    for ((_, own), gradient) in params.iter().zip(gradients) {
        let named = builder.result(&format!("grad.{own}"), gradient);
        named.expect("distinct names");
    }
    builder.finish()
}

/// How far results lie from the golden ones, where that is too far.
fn faults(name: &str, results: &[(String, Array)], golden: &Named, tolerance: f64) -> Vec<String> {
    let off = |(result, found): &(String, Array)| {
        let wanted = Array::from(&golden[&format!("{name}/{result}")]);
        assert_eq!(found.shape, wanted.shape, "{name}: shape of {result}");
        let pairs = found.floats().iter().zip(wanted.floats());
        let square = |sum: f64, x: f64| sum + x * x;
        let error = pairs.map(|(a, b)| a - b).fold(0.0, square).sqrt();
        let norm = wanted.floats().iter().copied().fold(0.0, square).sqrt();
        let error = error / norm.max(f64::MIN_POSITIVE);
        (error.is_nan() || error > tolerance).then(|| format!("{name}: {result} by {error:.1e}"))
    };
    results.iter().filter_map(off).collect()
}

#[test]
fn gradients_of_operators_are_those_of_pytorch() {
    let golden_tensors = tensors("vjp/vjp.safetensors");
    let text = fs::read_to_string(golden("vjp/graphs.txt")).expect("a golden file is there");
    let module = parse(&text).expect("graphs in the text form");
    assert_eq!(module.funcs.len(), 96);
    let executors = executors();
    let mut found = Vec::new();
    for func in &module.funcs {
        let name = func.name();
        let whole = differentiated(func, &golden_tensors);
        let given = |(_, own, _): (Value, &str, &_)| {
            let tensor = golden_tensors[&format!("{name}/in.{own}")].clone();
            (own.to_owned(), tensor)
        };
        let inputs: Named = func.params(Role::Input).map(given).collect();
        let exact = eval(&whole, &inputs, &Named::new(), Precision::Exact);
        let exact = exact.unwrap_or_else(|error| panic!("{name}: {error}"));
        found.extend(faults(name, &exact, &golden_tensors, TOLERANCE_EXACT));

        let program = compile(&whole, &Bindings::new());
        let program = program
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .program;
        for executor in &executors {
            let results = executor.run(&program, &inputs);
            let results = results.unwrap_or_else(|error| panic!("{name}: {error}"));
            let arrays = results.iter();
            let arrays: Vec<(String, Array)> = arrays
                .map(|(result, tensor)| (result.clone(), Array::from(tensor)))
                .collect();
            let tolerance = executor.slack * TOLERANCE;
            found.extend(
                faults(name, &arrays, &golden_tensors, tolerance)
                    .iter()
                    .map(|fault| format!("{}: {fault}", executor.name)),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
