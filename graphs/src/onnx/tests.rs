//! Small models made of messages: what is folded, inlined and specialised, and what is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use compiler::DType;
use compiler::graph::eval::eval;
use compiler::graph::{Role, TensorType};
use compiler::value::array::Precision;
use compiler::value::dim::Bindings;
use compiler::value::tensor::{Tensor, Values};

use super::proto::*;
use super::{OnnxModel, Request, import};

const F32: i32 = 1;
const I64: i32 = 7;

/// A node from `Op a b -> c d`; `_` leaves a value out.
fn node(text: &str) -> NodeProto {
    let (left, right) = text.split_once("->").expect("operands -> results");
    let mut left = left.split_whitespace();
    let name = |word: &str| {
        if word == "_" {
            String::new()
        } else {
            word.to_owned()
        }
    };
    NodeProto {
        op_type: left.next().expect("an operator").to_owned(),
        input: left.map(name).collect(),
        output: right.split_whitespace().map(name).collect(),
        ..NodeProto::default()
    }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

fn int(name: &str, i: i64) -> AttributeProto {
    let name = name.to_owned();
    AttributeProto {
        name,
        i: Some(i),
        ..AttributeProto::default()
    }
}

fn list(name: &str, ints: &[i64]) -> AttributeProto {
    let name = name.to_owned();
    AttributeProto {
        name,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

fn body(name: &str, g: GraphProto) -> AttributeProto {
    let name = name.to_owned();
    AttributeProto {
        name,
        g: Some(g),
        ..AttributeProto::default()
    }
}

/// A value from `name 2 batch ?`: extents as numbers, names, or nothing.
fn value(text: &str, elem_type: i32) -> ValueInfoProto {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name").to_owned();
    let dim = |word: &str| match word.parse() {
        Ok(number) => DimensionProto {
            dim_value: Some(number),
            dim_param: None,
        },
        Err(_) if word == "?" => DimensionProto::default(),
        Err(_) => DimensionProto {
            dim_value: None,
            dim_param: Some(word.to_owned()),
        },
    };
    let shape = TensorShapeProto {
        dim: words.map(dim).collect(),
    };
    let tensor_type = Some(TensorTypeProto {
        elem_type,
        shape: Some(shape),
    });
    ValueInfoProto {
        name,
        r#type: Some(TypeProto { tensor_type }),
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: I64,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn raw(name: &str, dims: &[i64], data_type: i32, bytes: usize) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type,
        raw_data: Some(vec![0; bytes].into()),
        ..TensorProto::default()
    }
}

fn external(location: &str, offset: &str, length: &str) -> TensorProto {
    let entry = |(key, value): (&str, &str)| StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let entries = [
        ("location", location),
        ("offset", offset),
        ("length", length),
    ];
    TensorProto {
        name: "w".to_owned(),
        dims: vec![100],
        data_type: F32,
        external_data: entries.into_iter().map(entry).collect(),
        data_location: 1,
        ..TensorProto::default()
    }
}

/// A graph with one float input `x` and one result `y`.
fn graph(input: &str, nodes: &[&str]) -> GraphProto {
    GraphProto {
        name: "test".to_owned(),
        node: nodes.iter().map(|text| node(text)).collect(),
        input: vec![value(input, F32)],
        output: vec![value("y", F32)],
        ..GraphProto::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 21,
        }],
        graph: Some(graph),
        functions: Vec::new(),
    }
}

fn files(model: &ModelProto) -> BTreeMap<String, Bytes> {
    let data = Bytes::from(vec![0; 400]);
    let model = Bytes::from(model.encode_to_vec());
    BTreeMap::from([("m/a.onnx".to_owned(), model), ("m/data".to_owned(), data)])
}

fn nothing_known() -> Request {
    Request {
        bindings: Bindings::new(),
        inputs: BTreeMap::new(),
        dtype: None,
    }
}

fn imported(model: &ModelProto, request: &Request) -> Result<OnnxModel, String> {
    import(&files(model), "m/a.onnx", request).map_err(|error| error.to_string())
}

/// The operators of the function, without constants and parameters.
fn operators(model: &OnnxModel) -> Vec<&'static str> {
    let func = &model.imported.func;
    let nodes = func.values().filter_map(|(value, _)| func.node(value));
    nodes
        .map(|node| node.op.name())
        .filter(|name| *name != "constant")
        .collect()
}

/// The type of the first result.
fn result_type(model: &OnnxModel) -> String {
    let func = &model.imported.func;
    func.ty(func.results()[0].1).to_string()
}

#[test]
fn shape_arithmetic_leaves_nothing_but_the_reshape() {
    let mut graph = graph(
        "x batch 4 height width",
        &[
            "Shape x -> s",
            "Gather s zero -> n",
            "Slice s two four -> hw",
            "ReduceProd hw -> area",
            "Mul area two -> twice",
            "Div twice two -> area2",
            "Unsqueeze n zero -> n2",
            "Squeeze n2 zero -> n1",
            "Concat n1 minus area2 -> shape",
            "Reshape x shape -> y",
        ],
    );
    graph.node[8].attribute.push(int("axis", 0));
    graph.initializer = vec![
        ints("zero", &[0]),
        ints("two", &[2]),
        ints("four", &[i64::MAX]),
        ints("minus", &[-1]),
    ];
    let model = imported(&model(graph), &nothing_known()).expect("imports");
    assert_eq!(operators(&model), ["reshape"]);
    assert_eq!(result_type(&model), "f32[batch, 4, height*width]");
}

#[test]
fn names_of_extents_become_identifiers_that_differ() {
    let graph = graph("x a/b a*b ? 7", &["Identity x -> y"]);
    let found = imported(&model(graph), &nothing_known()).expect("imports");
    assert_eq!(result_type(&found), "f32[a_b, a_b_, x.2, 7]");
    let bindings = Bindings::from([("a*b".to_owned(), 3), ("x.2".to_owned(), 5)]);
    let request = Request {
        bindings,
        inputs: BTreeMap::new(),
        dtype: None,
    };
    let graph = self::graph("x a/b a*b ? 7", &["Identity x -> y"]);
    let found = imported(&model(graph), &request).expect("imports");
    assert_eq!(result_type(&found), "f32[a_b, 3, 5, 7]");
}

#[test]
fn inputs_that_are_shapes_are_specialised_on() {
    let mut graph = graph("x 2 6", &["Reshape x shape -> y"]);
    graph.input.push(value("shape 2", I64));
    let proto = model(graph);
    let refused = imported(&proto, &nothing_known()).expect_err("the shape is not known");
    let wanted = "node \"Reshape:y\" (Reshape, opset 21): operand \"shape\" must be known when \
                  compiling, but depends on the contents of \"shape\": give them when compiling";
    assert_eq!(refused, wanted);
    let inputs = BTreeMap::from([
        ("x".to_owned(), Tensor::from_f32(&[2, 6], &[0.0; 12])),
        ("shape".to_owned(), Tensor::from_i64(&[2], &[3, -1])),
    ]);
    let request = Request {
        bindings: Bindings::new(),
        inputs,
        dtype: None,
    };
    let model = imported(&proto, &request).expect("imports");
    assert_eq!(result_type(&model), "f32[3, 4]");
    assert_eq!(model.specialised.keys().collect::<Vec<_>>(), ["shape"]);
    assert_eq!(model.imported.func.params(Role::Input).count(), 2);
}

#[test]
fn large_floats_are_weights_that_share_the_file() {
    let mut graph = graph("x 100", &["Mul x w -> a", "Add a v -> y"]);
    graph.initializer = vec![external("./data", "0", "400"), raw("v", &[1], F32, 4)];
    let files = files(&model(graph));
    let model = import(&files, "m/a.onnx", &nothing_known()).expect("imports");
    assert_eq!(model.imported.weights.keys().collect::<Vec<_>>(), ["w"]);
    let found = model.imported.weights["w"].bytes().as_ptr();
    assert_eq!(found, files["m/data"].as_ptr());
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let mut call = with(node("Twice x -> y"), int("along", 1));
    call.domain = "my".to_owned();
    call.name = "call".to_owned();
    let reference = AttributeProto {
        name: "axis".to_owned(),
        ref_attr_name: "along".to_owned(),
        ..AttributeProto::default()
    };
    let mut proto = model(GraphProto {
        node: vec![call],
        ..graph("x 2 3", &[])
    });
    proto.functions.push(FunctionProto {
        name: "Twice".to_owned(),
        domain: "my".to_owned(),
        input: vec!["a".to_owned(), "missing".to_owned()],
        output: vec!["b".to_owned()],
        attribute: vec!["along".to_owned()],
        node: vec![with(node("Concat a a -> b"), reference)],
        ..FunctionProto::default()
    });
    let model = imported(&proto, &nothing_known()).expect("imports");
    assert_eq!(result_type(&model), "f32[2, 6]");
    let func = &model.imported.func;
    assert_eq!(func.value(func.results()[0].1).origin, "call/Concat:b");
    // A function that calls itself twice would never end.
    proto.functions[0].node = vec![
        NodeProto {
            domain: "my".to_owned(),
            ..node("Twice a -> c")
        },
        NodeProto {
            domain: "my".to_owned(),
            ..node("Twice c -> b")
        },
    ];
    let refused = imported(&proto, &nothing_known()).expect_err("never ends");
    assert!(
        refused.ends_with("expands to more than 32 nested calls"),
        "{refused}"
    );
}

#[test]
fn the_branch_of_a_known_condition_is_taken() {
    let branch = |text: &str| GraphProto {
        node: vec![node(text)],
        output: vec![value("r", F32)],
        ..GraphProto::default()
    };
    let choose = with(node("If c -> y"), body("then_branch", branch("Neg x -> r")));
    let choose = with(choose, body("else_branch", branch("Unknown x -> r")));
    let mut graph = graph(
        "x 2 n",
        &["Shape x -> s", "Size s -> k", "Equal k two -> c"],
    );
    graph.node.push(choose);
    graph.initializer.push(TensorProto {
        dims: Vec::new(),
        ..ints("two", &[2])
    });
    let model = imported(&model(graph), &nothing_known()).expect("imports");
    assert_eq!(operators(&model), ["neg"]);
}

/// Draws repeat at every import, differ from node to node without a seed, and have the moments
/// asked for.
#[test]
fn random_numbers_are_normal_and_repeat() {
    let mut graph = graph(
        "x 40 50",
        &[
            "RandomNormalLike x -> a",
            "RandomNormalLike x -> b",
            "Sub a b -> y",
        ],
    );
    for (name, seed) in [("c", 7), ("d", 7), ("e", 8)] {
        let mut seeded = node(&format!("RandomNormalLike x -> {name}"));
        for (attribute, value) in [("seed", seed), ("mean", 3), ("scale", 2)] {
            seeded.attribute.push(AttributeProto {
                name: attribute.to_owned(),
                f: Some(value as f32),
                ..AttributeProto::default()
            });
        }
        graph.node.push(seeded);
    }
    for name in ["a", "b", "c", "d", "e"] {
        graph.output.push(value(name, F32));
    }
    let draws = || {
        let model =
            imported(&model(graph.clone()), &nothing_known()).expect("a shape that is known");
        let x = BTreeMap::from([("x".to_owned(), Tensor::from_f32(&[40, 50], &[0.0; 2000]))]);
        let results = eval(&model.imported.func, &x, &BTreeMap::new(), Precision::Typed);
        let results = results.expect("it evaluates").into_iter();
        results
            .map(|(name, array)| (name, array.floats().to_vec()))
            .collect::<BTreeMap<_, _>>()
    };
    let found = draws();
    assert_eq!(found, draws());
    assert_eq!(found["c"], found["d"]);
    assert_ne!(found["a"], found["b"]);
    assert_ne!(found["c"], found["e"]);
    for (name, mean, deviation) in [("a", 0.0, 1.0), ("c", 3.0, 2.0)] {
        let draws = &found[name];
        let own = draws.iter().sum::<f64>() / 2000.0;
        let squares = draws.iter().map(|x| (x - mean) * (x - mean));
        let spread = (squares.sum::<f64>() / 2000.0).sqrt();
        // Four standard errors of 2000 draws.
        assert!(
            (own - mean).abs() < 4.0 * deviation / 2000f64.sqrt(),
            "{name}: {own}"
        );
        assert!(
            (spread - deviation).abs() < 4.0 * deviation / 4000f64.sqrt(),
            "{name}: {spread}"
        );
    }
}

/// Products take 16 bits, and what meets their results; inputs before them, a cast of the graph
/// and results are f32.
#[test]
fn graphs_of_f32_compute_in_16_bits() {
    let mut graph = graph(
        "x 2 100",
        &[
            "Sin x -> angle",
            "Transpose w -> turned",
            "MatMul angle turned -> h",
            "Add h angle -> sum",
            "Cast sum -> wide",
            "Exp wide -> power",
            "Mul power v -> scaled",
            "Sub sum scaled -> y",
        ],
    );
    graph.node[4].attribute.push(int("to", F32.into()));
    let square = raw("w", &[100, 100], F32, 40_000);
    graph.initializer = vec![square, raw("v", &[100], F32, 400)];
    let request = |dtype| Request {
        dtype: Some(dtype),
        ..nothing_known()
    };
    let found = imported(&model(graph.clone()), &request(DType::F16)).expect("a graph of f32");
    let func = &found.imported.func;
    let nodes = func.values().filter_map(|(value, _)| {
        let node = func.node(value)?;
        Some(format!("{} {}", node.op.name(), func.ty(value).dtype))
    });
    let wanted = [
        "sin f32",
        "transpose f16",
        "cast f16",
        "matmul f16",
        "add f16",
        "cast f32",
        "exp f32",
        "mul f32",
        "cast f16",
        "sub f16",
        "cast f32",
    ];
    assert_eq!(nodes.collect::<Vec<_>>(), wanted);
    let types = |(name, tensor): (&String, &Tensor)| format!("{name} {}", tensor.dtype());
    let weights: Vec<String> = found.imported.weights.iter().map(types).collect();
    assert_eq!(weights, ["v f32", "w f16"]);
    graph.initializer = vec![raw("w", &[100, 100], 10, 20_000)];
    let error = imported(&model(graph), &request(DType::BF16)).expect_err("a graph of f16");
    assert_eq!(
        error,
        "weights are f16, wanted f32 to compile the graph in bf16"
    );
}

/// Operands of any number, rank and type end in a result or an error.
#[test]
fn no_operator_panics() {
    let attribute = |name: &str| match name {
        "pads" => list(name, &[1, 0, 1, 0]),
        "kernel_shape" | "strides" | "dilations" | "output_shape" | "output_padding" => {
            list(name, &[2, 3])
        }
        "axes" | "perm" => list(name, &[1, 0]),
        "equation" => AttributeProto {
            name: name.to_owned(),
            s: Some("ab...,bc->...ca".into()),
            ..AttributeProto::default()
        },
        _ => int(name, 1),
    };
    let default = super::ops::OPERATORS.iter().map(|op| ("", op));
    let fused = super::ops::microsoft::OPERATORS.iter();
    let fused = fused.map(|op| ("com.microsoft", op));
    let shapes = [
        "",
        "2",
        "0",
        "2 3",
        "1 2 3",
        "1 4 2 3",
        "1 2 2 3 2",
        "batch 2 height 3",
    ];
    let mut imports = 0;
    for (domain, operator) in default.chain(fused) {
        for (shape, operands, with_attributes, elem_type) in shapes.iter().flat_map(|shape| {
            (1..=5).flat_map(move |count| {
                [(false, F32), (true, F32), (true, I64)].map(|(with, ty)| (shape, count, with, ty))
            })
        }) {
            let mut one = node("Op -> y");
            one.op_type = operator.name.to_owned();
            one.domain = domain.to_owned();
            one.input = (0..operands).map(|index| format!("x{index}")).collect();
            if with_attributes {
                one.attribute = operator
                    .attributes
                    .iter()
                    .map(|name| attribute(name))
                    .collect();
            }
            let mut graph = graph("unused 1", &[]);
            graph.input = one
                .input
                .iter()
                .map(|x| value(&format!("{x} {shape}"), elem_type))
                .collect();
            graph.node.push(one);
            let mut model = model(graph);
            model.opset_import[0].version = 25;
            let _either = imported(&model, &nothing_known());
            imports += 1;
        }
    }
    assert!(imports > 10_000, "every operator is tried");
}

/// Converters to 16 bits append casts at the end of the graph, and of branches.
#[test]
fn nodes_may_come_in_any_order() {
    let branch = |nodes: &[&str]| GraphProto {
        input: Vec::new(),
        output: vec![value("r", F32)],
        ..graph("x 2 3", nodes)
    };
    let choice = node("If true -> chosen");
    let choice = with(
        choice,
        body("then_branch", branch(&["Neg t -> r", "Exp h -> t"])),
    );
    let choice = with(choice, body("else_branch", branch(&["Abs h -> r"])));
    let mut graph = graph("x 2 3", &["Sqrt chosen -> y", "Log x -> h"]);
    graph.node.insert(1, choice);
    graph.initializer.push(ints("true", &[1]));
    let model = imported(&model(graph), &nothing_known()).expect("it has an order");
    assert_eq!(operators(&model), ["log", "exp", "neg", "sqrt"]);
}

#[test]
fn results_may_be_inputs_constants_and_each_other() {
    let mut graph = graph("x 2", &["Neg x -> y"]);
    graph.initializer.push(ints("k", &[5]));
    graph.output.extend([value("x 2", F32), value("k 1", I64)]);
    let model = imported(&model(graph), &nothing_known()).expect("imports");
    let func = &model.imported.func;
    let inputs = BTreeMap::from([("x".to_owned(), Tensor::from_f32(&[2], &[1.0, 2.0]))]);
    let weights = BTreeMap::new();
    let results = eval(func, &inputs, &weights, Precision::Typed).expect("evaluates");
    let values: Vec<&Values> = results.iter().map(|(_, array)| &array.values).collect();
    let floats = |list: &[f64]| Values::Float(list.to_vec());
    assert_eq!(
        values,
        [
            &floats(&[-1.0, -2.0]),
            &floats(&[1.0, 2.0]),
            &Values::Int(vec![5])
        ]
    );
}

#[test]
fn sizes_may_be_data() {
    let mut graph = graph(
        "x n 3",
        &[
            "Shape x -> s",
            "Cast s -> f",
            "Mul x half -> h",
            "Add h f -> y",
        ],
    );
    graph.node[1] = with(node("Cast t -> f"), int("to", 1));
    graph.node.insert(
        1,
        with(with(node("Shape x -> t"), int("start", 0)), int("end", 1)),
    );
    graph.initializer.push(raw("half", &[1], F32, 4));
    let model = imported(&model(graph), &nothing_known()).expect("imports");
    let func = &model.imported.func;
    let bindings = Bindings::from([("n".to_owned(), 2)]);
    let bound = func.bind(&bindings).expect("binds");
    let inputs = BTreeMap::from([("x".to_owned(), Tensor::from_f32(&[2, 3], &[1.0; 6]))]);
    let results = eval(&bound, &inputs, &BTreeMap::new(), Precision::Typed).expect("evaluates");
    assert_eq!(results[0].1.values, Values::Float(vec![2.0; 6]));
}

/// Each model is refused, and the message says what and where.
#[test]
fn damaged_and_hostile_models_are_refused() {
    let x = "x 100";
    let with_weight = |tensor: TensorProto| {
        let mut graph = graph(x, &["Add x w -> y"]);
        graph.initializer.push(tensor);
        graph
    };
    let with_input = |input: &str| graph(input, &["Neg x -> y"]);
    let twice_named = {
        let mut graph = graph(x, &["Neg x -> y"]);
        graph.output.push(value("y", F32));
        graph
    };
    let no_type = GraphProto {
        input: vec![ValueInfoProto {
            name: "x".to_owned(),
            r#type: None,
        }],
        ..graph(x, &["Neg x -> y"])
    };
    let powers = {
        let squares: Vec<String> = (0..40)
            .map(|i| format!("Mul s{i} s{i} -> s{}", i + 1))
            .collect();
        let mut graph = graph("x a b", &["Shape x -> s"]);
        graph.node.push(node("ReduceSum s -> s0"));
        graph.node.extend(squares.iter().map(|text| node(text)));
        graph.node.push(node("ConstantOfShape s40 -> y"));
        graph
    };
    let huge = vec![1 << 40; 3];
    let cases: Vec<(&str, GraphProto, &str)> = vec![
        (
            "cycle",
            graph(x, &["Add x b -> a", "Neg a -> b", "Neg b -> y"]),
            "found a cycle of nodes, each of which uses a result of the next: node \"Add:a\", node \"Neg:b\"",
        ),
        (
            "a node on itself, and one that waits for it",
            graph(x, &["Neg b -> y", "Add x b -> b"]),
            "found a cycle of nodes, each of which uses a result of the next: node \"Add:b\"",
        ),
        (
            "undefined",
            graph(x, &["Add x q -> y"]),
            "node \"Add:y\" uses the value \"q\", which nothing defines",
        ),
        (
            "no result",
            graph(x, &["Neg x -> z"]),
            "an output of the graph uses the value \"y\", which nothing defines",
        ),
        (
            "redefined",
            graph(x, &["Neg x -> y", "Abs x -> y"]),
            "node \"Abs:y\" defines the value \"y\" a second time",
        ),
        (
            "two results of one name",
            twice_named,
            "outputs of the graph: \"test\" has two results named \"y\", wanted distinct names",
        ),
        (
            "unsupported",
            graph(x, &["Foo x -> a", "Neg a -> b", "Loop b -> y"]),
            "found unsupported operators: Foo of domain \"ai.onnx\" (opset 21) at \"Foo:a\", Loop of domain \"ai.onnx\" (opset 21) at \"Loop:y\"",
        ),
        (
            "too many results",
            graph(x, &["Neg x -> y z"]),
            "node \"Neg:y\" (Neg, opset 21): 2 results are used, the operator has 1 here",
        ),
        (
            "missing operand",
            graph(x, &["Add x -> y"]),
            "node \"Add:y\" (Add, opset 21): operand \"B\" is missing",
        ),
        (
            "lying length",
            with_weight(raw("w", &[100], F32, 8)),
            "tensor \"w\": found 8 bytes, wanted 400 for f32 of shape [100]",
        ),
        (
            "no data",
            with_weight(TensorProto {
                raw_data: None,
                ..raw("w", &[100], F32, 0)
            }),
            "tensor \"w\": found 0 elements for shape [100]",
        ),
        (
            "negative extent",
            with_weight(raw("w", &[-1], F32, 4)),
            "tensor \"w\": found shape [-1], wanted extents that memory can hold",
        ),
        (
            "huge extents",
            with_weight(raw("w", &huge, F32, 4)),
            "tensor \"w\": a tensor of f32 and shape [1099511627776, 1099511627776, 1099511627776] exceeds the address space",
        ),
        (
            "absurd rank",
            with_weight(raw("w", &[1; 99], F32, 4)),
            "tensor \"w\": found 99 axes, wanted at most 16",
        ),
        (
            "strings",
            with_weight(raw("w", &[1], 8, 4)),
            "tensor \"w\": found string, wanted a type that the compiler has",
        ),
        (
            "escape",
            with_weight(external("../data", "0", "400")),
            "tensor \"w\": found the path \"../data\", wanted a relative path that stays within \"m\"",
        ),
        (
            "absolute",
            with_weight(external("/m/data", "0", "400")),
            "tensor \"w\": found the path \"/m/data\", wanted a relative path that stays within \"m\"",
        ),
        (
            "no such file",
            with_weight(external("other", "0", "400")),
            "tensor \"w\": found no file \"m/other\"",
        ),
        (
            "behind the end",
            with_weight(external("data", "4", "400")),
            "tensor \"w\": \"m/data\" is incomplete: it has 400 bytes, expected at least 404",
        ),
        (
            "wrapping offset",
            with_weight(external("data", "18446744073709551615", "400")),
            "tensor \"w\": \"m/data\" is incomplete: it has 400 bytes, expected at least 18446744073709552015",
        ),
        (
            "offset is no number",
            with_weight(external("data", "-4", "400")),
            "tensor \"w\": external data has offset \"-4\", wanted a path, offsets and lengths in bytes",
        ),
        (
            "negative input",
            with_input("x -1"),
            "input \"x\" has extent -1 on axis 0, wanted an extent of at least 0, or a name",
        ),
        (
            "huge input",
            with_input("x 1099511627776 1099511627776"),
            "x at \"x\" has type f32[1099511627776, 1099511627776], wanted at most 2^40 elements per tensor",
        ),
        (
            "no type",
            no_type,
            "input \"x\" has a type that is no dense tensor's, wanted a dense tensor",
        ),
        (
            "exploding expressions",
            powers,
            "node \"ConstantOfShape:y\" (ConstantOfShape, opset 21): operand \"input\" must be known",
        ),
    ];
    for (what, graph, wanted) in cases {
        let found = imported(&model(graph), &nothing_known()).expect_err(what);
        assert!(found.starts_with(wanted), "{what}: {found}");
    }
}

#[test]
fn files_that_are_no_models_are_refused() {
    let mut whole = model(graph("x 100", &["Neg x -> y"]));
    let bytes = whole.encode_to_vec();
    for length in 0..bytes.len() {
        let cut = Bytes::copy_from_slice(&bytes[..length]);
        let files = BTreeMap::from([("a.onnx".to_owned(), cut)]);
        let found = import(&files, "a.onnx", &nothing_known()).expect_err("it was cut");
        // A cut between two fields leaves a smaller message.
        let said = match ModelProto::decode(&bytes[..length]) {
            Ok(_) => String::new(),
            Err(_) => format!("is incomplete: it has {length} bytes, expected at least"),
        };
        assert!(found.to_string().contains(&said), "{length}: {found}");
    }
    let files = BTreeMap::from([("a.onnx".to_owned(), Bytes::from(vec![0x3a; 64]))]);
    let found = import(&files, "a.onnx", &nothing_known()).expect_err("no protobuf");
    assert!(
        found
            .to_string()
            .starts_with("\"a.onnx\" is not an ONNX model:"),
        "{found}"
    );
    whole.opset_import[0].version = 99;
    let found = imported(&whole, &nothing_known()).expect_err("no such opset");
    assert_eq!(
        found,
        "found opset 99 of the default domain, wanted 1 to 28"
    );
}

#[test]
fn nested_branches_deeper_than_any_model_are_refused() {
    let mut inner = graph("x 2", &["Neg x -> y"]);
    for _ in 0..200 {
        let choose = with(node("If x -> y"), body("then_branch", inner));
        inner = GraphProto {
            node: vec![choose],
            ..graph("x 2", &[])
        };
    }
    let found = imported(&model(inner), &nothing_known()).expect_err("too deep");
    assert!(found.contains("recursion limit"), "{found}");
}

#[test]
fn every_data_field_is_read() {
    let proto = |data_type, dims: &[i64]| TensorProto {
        name: "w".to_owned(),
        dims: dims.to_vec(),
        data_type,
        ..TensorProto::default()
    };
    let int32_data = vec![1, 0, 3];
    let cases = [
        (
            TensorProto {
                float_data: vec![0.5],
                ..proto(1, &[])
            },
            DType::F32,
            Values::Float(vec![0.5]),
        ),
        (
            TensorProto {
                double_data: vec![0.5],
                ..proto(11, &[1])
            },
            DType::F64,
            Values::Float(vec![0.5]),
        ),
        (
            TensorProto {
                int64_data: vec![-7],
                ..proto(7, &[1])
            },
            DType::I64,
            Values::Int(vec![-7]),
        ),
        (
            TensorProto {
                int32_data: int32_data.clone(),
                ..proto(6, &[3])
            },
            DType::I32,
            Values::Int(vec![1, 0, 3]),
        ),
        (
            TensorProto {
                int32_data: int32_data.clone(),
                ..proto(2, &[3])
            },
            DType::U8,
            Values::Int(vec![1, 0, 3]),
        ),
        (
            TensorProto {
                int32_data,
                ..proto(9, &[3])
            },
            DType::Bool,
            Values::Bool(vec![true, false, true]),
        ),
        (
            TensorProto {
                int32_data: vec![0x3c00],
                ..proto(10, &[1])
            },
            DType::F16,
            Values::Float(vec![1.0]),
        ),
        (
            TensorProto {
                int32_data: vec![0x3f80],
                ..proto(16, &[1])
            },
            DType::BF16,
            Values::Float(vec![1.0]),
        ),
        (
            TensorProto {
                raw_data: Some(vec![0, 7].into()),
                ..proto(9, &[2])
            },
            DType::Bool,
            Values::Bool(vec![false, true]),
        ),
    ];
    let files: BTreeMap<String, Bytes> = BTreeMap::new();
    let folder = super::tensor::Folder::new(&files, "");
    for (proto, dtype, values) in cases {
        let found = super::tensor::tensor(&proto, &folder).expect("reads");
        assert_eq!(
            (TensorType::of(&found).dtype, found.values()),
            (dtype, values)
        );
    }
}
