//! The golden cases of the operators.
//!
//! Takes `ops.json` and `ops.safetensors`, gives operators with their operands and the results
//! wanted. It runs nothing.

use compiler::ops::{Attribute, Op};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::Tensor;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

use crate::support::golden;

/// One case of the golden file.
pub(crate) struct Case {
    /// The operator's name and what is special.
    pub(crate) title: String,
    pub(crate) op: Op,
    pub(crate) operands: Vec<Tensor>,
    pub(crate) wanted: Tensor,
}

/// Every case of `tests/golden`.
pub(crate) fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden("ops.json")).expect("the golden cases");
    let bytes = std::fs::read(golden("ops.safetensors")).expect("the golden tensors");
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
