//! The operator suite: every operator, on every executor, against what torch computes.
//!
//! Takes the cases of `tests/golden/ops.json`, builds a function of one node for each and
//! compares its result within the operator's own tolerance. A new executor is one line in
//! [`executors`]; a new case is a line of `tests/scripts/op_cases_*.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use compiler::dim::Dim;
use compiler::dtype::DType;
use compiler::eval::{Precision, eval};
use compiler::graph::{Builder, Func, TensorType};
use compiler::ops::{self, Attribute, Op};
use compiler::tensor::{Tensor, Values};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

/// Named tensors in, the function's results in order out, or what went wrong in words.
type Executor = fn(&Func, &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String>;

fn executors() -> Vec<(&'static str, Executor)> {
    vec![("oracle", run_oracle), ("cpu", run_cpu)]
}

fn run_cpu(func: &Func, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>, String> {
    let executor = backends::cpu::Executor::new(func, &BTreeMap::new(), Some(2));
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
    let tensor = |((_, array), dtype): ((String, compiler::eval::Array), DType)| {
        Tensor::from_values(dtype, &array.shape, &array.values)
    };
    Ok(results.into_iter().zip(types).map(tensor).collect())
}

/// One case of the golden file.
struct Case {
    /// The operator's name and what is special.
    title: String,
    op: Op,
    operands: Vec<Tensor>,
    wanted: Tensor,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join("ops.json")).expect("the golden cases");
    let bytes = std::fs::read(folder.join("ops.safetensors")).expect("the golden tensors");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let json: Json = serde_json::from_str(&text).expect("cases are JSON");
    let rows = json["cases"].as_array().expect("a list of cases");
    rows.iter().map(|row| case(row, &file)).collect()
}

fn case(row: &Json, file: &SafeTensors<'_>) -> Case {
    let (name, note) = (string(&row["op"]), string(&row["note"]));
    let title = format!("{name} ({note})");
    let attributes: Vec<(String, Attribute)> = row["attributes"]
        .as_object()
        .expect("attributes by name")
        .iter()
        .map(|(key, value)| (key.clone(), attribute(value, file)))
        .collect();
    let op = Op::parse(name, &attributes).unwrap_or_else(|| panic!("{title}: unknown operator"));
    let operands = row["operands"].as_array().expect("a list of operands");
    Case {
        op: op.unwrap_or_else(|error| panic!("{title}: {error}")),
        operands: operands
            .iter()
            .map(|name| tensor(string(name), file))
            .collect(),
        wanted: tensor(string(&row["result"]), file),
        title,
    }
}

fn string(json: &Json) -> &str {
    json.as_str().expect("a string")
}

fn int(json: &Json) -> i64 {
    json.as_i64().expect("an integer")
}

/// An attribute from an object whose only key is the attribute's kind.
fn attribute(json: &Json, file: &SafeTensors<'_>) -> Attribute {
    let object = json.as_object().expect("an object of one kind");
    let (kind, value) = object.iter().next().expect("a kind");
    let list = || value.as_array().expect("a list").iter().map(int);
    match kind.as_str() {
        "int" => Attribute::Int(int(value)),
        "ints" => Attribute::Ints(list().collect()),
        "dim" => Attribute::Dim(Dim::from(int(value))),
        "dims" => Attribute::Dims(list().map(Dim::from).collect()),
        "float" => Attribute::Float(value.as_f64().expect("a number")),
        "bool" => Attribute::Bool(value.as_bool().expect("a truth value")),
        "name" => Attribute::Name(string(value).to_owned()),
        "dtype" => Attribute::DType(DType::from_name(string(value)).expect("an element type")),
        "tensor" => Attribute::Tensor(tensor(string(value), file)),
        other => panic!("unknown kind of attribute {other:?}"),
    }
}

fn tensor(name: &str, file: &SafeTensors<'_>) -> Tensor {
    let view = file
        .tensor(name)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let dtype = match view.dtype() {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => panic!("{name} has element type {other:?}"),
    };
    let bytes = view.data().to_vec().into();
    Tensor::new(dtype, view.shape().to_vec(), bytes).expect("a tensor of a valid file")
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
    let wanted: BTreeSet<&str> = ops::NAMES.iter().copied().collect();
    assert_eq!(covered, wanted);
}
