//! ONNX models written field by field, after the field numbers of onnx.proto.

/// A field that holds a number.
pub(crate) fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

/// A field that holds bytes, a text or a message.
pub(crate) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [
        varint(field << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 & 127 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A node of a domain.
pub(crate) fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = inputs.iter().map(|name| bytes(1, name)).collect();
    fields.extend(outputs.iter().map(|name| bytes(2, name)));
    fields.extend([
        bytes(3, format!("the_{op}")),
        bytes(4, op),
        bytes(7, domain),
    ]);
    fields.concat()
}

/// An f32 input or output with the extents `dims`.
pub(crate) fn value(name: &str, dims: &[i64]) -> Vec<u8> {
    let dims = dims.iter().map(|&dim| number(1, dim));
    of_shape(name, dims.collect())
}

/// An f32 input or output of 4 columns and as many rows as the symbol `rows` says.
pub(crate) fn open_value(name: &str, rows: &str) -> Vec<u8> {
    of_shape(name, vec![bytes(2, rows), number(1, 4)])
}

fn of_shape(name: &str, dims: Vec<Vec<u8>>) -> Vec<u8> {
    let shape = dims
        .iter()
        .map(|dim| bytes(1, dim))
        .collect::<Vec<_>>()
        .concat();
    let tensor = [number(1, 1), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// An f32 initializer `w` of 4 elements that lies in the file `location`.
pub(crate) fn external(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    [
        number(1, 4),
        number(2, 1),
        bytes(8, "w"),
        entry("location", location),
        number(14, 1),
    ]
    .concat()
}

/// An i64 initializer.
pub(crate) fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let extent = number(1, values.len() as i64);
    [extent, number(2, 7), bytes(8, name), bytes(9, data)].concat()
}

/// A model of the opset 17 from `x` to `y`.
pub(crate) fn model(nodes: &[Vec<u8>], initializers: &[Vec<u8>], x: &[i64], y: &[i64]) -> Vec<u8> {
    model_of(nodes, initializers, [value("x", x), value("y", y)])
}

/// A model of the opset 17 with one input and one output.
pub(crate) fn model_of(
    nodes: &[Vec<u8>],
    initializers: &[Vec<u8>],
    [x, y]: [Vec<u8>; 2],
) -> Vec<u8> {
    let mut graph: Vec<Vec<u8>> = nodes.iter().map(|node| bytes(1, node)).collect();
    graph.push(bytes(2, "g"));
    graph.extend(initializers.iter().map(|tensor| bytes(5, tensor)));
    graph.extend([bytes(11, x), bytes(12, y)]);
    let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
    [
        number(1, 8),
        bytes(7, graph.concat()),
        opset("", 17),
        opset("com.example", 3),
    ]
    .concat()
}
