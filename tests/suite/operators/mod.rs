//! The operator suite: every operator, on every executor, against what torch computes.
//!
//! Takes the cases of `tests/golden/ops.json`, builds a function of one node for each and
//! compares its result within the operator's own tolerance. A new executor is one line in
//! [`executors`]; a new case is a line of `tests/scripts/op_cases_*.py`.

mod cases;
mod hostile;

use std::collections::{BTreeMap, BTreeSet};

use backends::cpu::{Executor, Options};
use compiler::graph::eval::eval;
use compiler::graph::{Builder, Func, TensorType};
use compiler::ops::{self, Op};
use compiler::program::Program;
use compiler::tile::Tuning;
use compiler::value::array::Precision;
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

use cases::{Case, cases};

/// Named tensors in, the function's results in order out, or what went wrong in words.
type Execute = fn(&Func, &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String>;

fn executors() -> Vec<(&'static str, Execute)> {
    vec![("oracle", run_oracle), ("cpu", run_cpu)]
}

fn run_cpu(func: &Func, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String> {
    let program = Program::new(func.clone()).map_err(|error| error.to_string())?;
    let options = Options {
        threads: Some(2),
        exact: true,
    };
    let executor = Executor::new(&program, BTreeMap::new(), options, &Tuning::default());
    let executor = executor.map_err(|error| error.to_string())?;
    let results = executor.run(inputs).map_err(|error| error.to_string())?;
    Ok(results.into_iter().map(|(_, tensor)| tensor).collect())
}

fn run_oracle(func: &Func, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String> {
    let results = eval(func, inputs, &BTreeMap::new(), Precision::Typed);
    let results = results.map_err(|error| error.to_string())?;
    let types = func
        .results()
        .iter()
        .map(|(_, value)| func.ty(*value).dtype);
    let tensor = |((_, array), dtype): ((String, compiler::value::array::Array), DType)| {
        Tensor::from_values(dtype, &array.shape, &array.values)
    };
    Ok(results.into_iter().zip(types).map(tensor).collect())
}

/// A function whose inputs are the operands and whose result is the operator's.
fn function(case: &Case) -> (Func, BTreeMap<String, Tensor>) {
    let mut builder = Builder::new("case");
    let mut inputs = BTreeMap::new();
    let mut operands = Vec::new();
    for (position, operand) in case.operands.iter().enumerate() {
        let name = format!("x{position}");
        let value = builder.input(&name, TensorType::of(operand));
        operands.push(value.expect("distinct names"));
        inputs.insert(name, operand.clone());
    }
    let result = builder.push(case.op.clone(), &operands);
    let result = result.unwrap_or_else(|error| panic!("{}: {error}", case.title));
    builder.result("result", result).expect("one result");
    (builder.finish(), inputs)
}

/// The error allowed relative to the largest magnitude: the operator's own, and where it is not
/// exact at least one rounding of the element type.
fn tolerance(op: &Op, dtype: DType) -> f64 {
    let rounding = match dtype {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => 0.0,
        DType::F32 | DType::F64 => 0.0,
    };
    match op.tolerance() {
        0.0 => 0.0,
        own => f64::max(own, rounding),
    }
}

/// What differs, if anything does.
fn difference(found: &Tensor, wanted: &Tensor, tolerance: f64) -> Option<String> {
    let (found_type, wanted_type) = (TensorType::of(found), TensorType::of(wanted));
    if found_type != wanted_type {
        return Some(format!("result is {found_type}, wanted {wanted_type}"));
    }
    let (found, wanted) = match (found.values(), wanted.values()) {
        (Values::Float(found), Values::Float(wanted)) => (found, wanted),
        (found, wanted) => return (found != wanted).then(|| format!("{found:?} not {wanted:?}")),
    };
    let finite = wanted.iter().filter(|value| value.is_finite());
    let largest = finite.fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let allowed = tolerance * largest;
    let agrees = |(found, wanted): (&f64, &f64)| {
        let near = found.is_finite() && (found - wanted).abs() <= allowed;
        near || found == wanted || (found.is_nan() && wanted.is_nan())
    };
    let mut pairs = found.iter().zip(&wanted);
    let at = pairs.position(|pair| !agrees(pair))?;
    let (found, wanted) = (found[at], wanted[at]);
    Some(format!(
        "element {at} is {found}, wanted {wanted} within {allowed}"
    ))
}

#[test]
fn every_executor_computes_what_the_operators_mean() {
    let cases = cases();
    let mut failures = Vec::new();
    for (executor, run) in executors() {
        for case in &cases {
            let (func, inputs) = function(case);
            let complaint = match run(&func, &inputs).as_deref() {
                Ok([found]) => {
                    let allowed = tolerance(&case.op, case.wanted.dtype());
                    difference(found, &case.wanted, allowed)
                }
                Ok(results) => Some(format!("{} results, wanted 1", results.len())),
                Err(error) => Some(error.clone()),
            };
            failures.extend(complaint.map(|text| format!("{executor}: {}: {text}", case.title)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_operator_has_a_case() {
    let covered: BTreeSet<&str> = cases().iter().map(|case| case.op.name()).collect();
    // A call means what the function does that it names.
    let own = ops::NAMES.iter().copied().filter(|name| *name != "call");
    let wanted: BTreeSet<&str> = own.collect();
    assert_eq!(covered, wanted);
}
