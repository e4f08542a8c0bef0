//! The operator suite: every operator, on every executor, against what torch computes.
//!
//! Takes the cases of `tests/golden/ops.json`, builds a function of one node for each and
//! compares its result within the operator's own tolerance. A new executor is one line in
//! `executors`; a new case is a line of `tests/scripts/op_cases_*.py`.

mod cases;
mod hostile;

use std::collections::BTreeSet;

use compiler::graph::{Builder, TensorType};
use compiler::ops::{self, Op};
use compiler::program::Program;
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

use crate::executors::{Executor, Named, executors};
use cases::{Case, cases};

/// A program whose inputs are the operands and whose result is the operator's.
fn program(case: &Case) -> (Program, Named) {
    let mut builder = Builder::new("case");
    let mut inputs = Named::new();
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
    let program = Program::new(builder.finish());
    (
        program.unwrap_or_else(|error| panic!("{}: {error}", case.title)),
        inputs,
    )
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
pub(crate) fn difference(found: &Tensor, wanted: &Tensor, tolerance: f64) -> Option<String> {
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

/// Whether an executor promises the result of a case.
fn promises(executor: &Executor, case: &Case) -> bool {
    let tensors = || case.operands.iter().chain([&case.wanted]);
    let finite = tensors().all(|tensor| tensor.not_finite() == 0);
    // Powers of negative numbers go through logarithms on adapters.
    executor.not_finite || (finite && case.op.name() != "pow")
}

#[test]
fn every_executor_computes_what_the_operators_mean() {
    let cases = cases();
    let mut failures = Vec::new();
    for executor in executors() {
        for case in cases.iter().filter(|case| promises(&executor, case)) {
            let (program, inputs) = program(case);
            let complaint = match executor.run(&program, &inputs).as_deref() {
                Ok([(_, found)]) => {
                    let allowed = executor.slack * tolerance(&case.op, case.wanted.dtype());
                    difference(found, &case.wanted, allowed)
                }
                Ok(results) => Some(format!("{} results, wanted 1", results.len())),
                Err(error) => Some(error.clone()),
            };
            let name = executor.name;
            failures.extend(complaint.map(|text| format!("{name}: {}: {text}", case.title)));
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
