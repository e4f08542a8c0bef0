//! Single nodes of ONNX, on every executor, against what onnxruntime computes.
//!
//! Takes the cases of `tests/golden/onnx_operators.safetensors`; a new one is a line of
//! `tests/scripts/make_onnx_op_goldens.py`.

use std::collections::BTreeMap;

use bytes::Bytes;
use compiler::program::Program;
use compiler::value::dim::Bindings;
use graphs::onnx::{Request, import};

use crate::executors::{Named, executors};
use crate::operators::difference;
use crate::support::tensors;

/// Sums and functions of f32 that another library rounds in other places.
const TOLERANCE: f64 = 1e-5;

/// A model of one node, and what it computes.
#[derive(Default)]
struct Case {
    model: Bytes,
    inputs: Named,
    wanted: Named,
}

fn cases() -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in tensors("onnx_operators.safetensors") {
        if let Some(case) = name.strip_suffix(".model") {
            let model = Bytes::copy_from_slice(tensor.bytes());
            cases.entry(case.to_owned()).or_default().model = model;
        } else if let Some((case, name)) = name.split_once(".in.") {
            let case = cases.entry(case.to_owned()).or_default();
            case.inputs.insert(name.to_owned(), tensor);
        } else if let Some((case, name)) = name.split_once(".out.") {
            let case = cases.entry(case.to_owned()).or_default();
            case.wanted.insert(name.to_owned(), tensor);
        }
    }
    cases
}

/// The program of a case; the contents of its integers are known when compiling.
fn program(case: &Case) -> Result<Program, String> {
    let request = Request {
        bindings: Bindings::new(),
        inputs: case.inputs.clone(),
        dtype: None,
    };
    let files = BTreeMap::from([("case.onnx".to_owned(), case.model.clone())]);
    let model = import(&files, "case.onnx", &request).map_err(|error| error.to_string())?;
    assert!(model.imported.weights.is_empty(), "it has inputs only");
    Program::new(model.imported.func).map_err(|error| error.to_string())
}

#[test]
fn nodes_compute_what_onnxruntime_does() {
    let mut failures = Vec::new();
    let executors = executors();
    for (name, case) in cases() {
        let program = match program(&case) {
            Ok(program) => program,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for executor in &executors {
            let at = executor.name;
            let results = match executor.run(&program, &case.inputs) {
                Ok(results) => results,
                Err(error) => {
                    failures.push(format!("{name}: {at}: {error}"));
                    continue;
                }
            };
            assert_eq!(results.len(), case.wanted.len(), "results of {name}");
            for (result, found) in results {
                let allowed = executor.slack * TOLERANCE;
                let complaint = difference(&found, &case.wanted[&result], allowed);
                failures.extend(complaint.map(|text| format!("{name}: {at}: {result}: {text}")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
