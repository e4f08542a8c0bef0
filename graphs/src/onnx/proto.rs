//! The messages of an ONNX file, as far as the importer reads them.
//!
//! Takes the bytes of a file, gives messages whose tensors share those bytes: nothing large is
//! copied. Field numbers are those of `onnx.proto` (onnx 1.23). It judges nothing beyond the wire
//! format: lengths, names and types are checked by whoever uses them.

use bytes::Bytes;
use prost::Message;

/// A model: a graph, the operator sets that it speaks, and local functions.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelProto {
    /// The version of the format.
    #[prost(int64, tag = "1")]
    pub(crate) ir_version: i64,
    /// The versions of the operator sets, by domain.
    #[prost(message, repeated, tag = "8")]
    pub(crate) opset_import: Vec<OperatorSetIdProto>,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<GraphProto>,
    /// Functions that nodes may call as operators.
    #[prost(message, repeated, tag = "25")]
    pub(crate) functions: Vec<FunctionProto>,
}

/// The version of one operator set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSetIdProto {
    /// The domain; empty for ONNX's own.
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

/// A graph, or the body of a branch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphProto {
    /// The nodes, operands before their uses.
    #[prost(message, repeated, tag = "1")]
    pub(crate) node: Vec<NodeProto>,
    /// A name.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Tensors by name.
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializer: Vec<TensorProto>,
    /// The inputs.
    #[prost(message, repeated, tag = "11")]
    pub(crate) input: Vec<ValueInfoProto>,
    /// The outputs.
    #[prost(message, repeated, tag = "12")]
    pub(crate) output: Vec<ValueInfoProto>,
    /// Sparse tensors: only their presence is read, which is refused.
    #[prost(message, repeated, tag = "15")]
    pub(crate) sparse_initializer: Vec<Unread>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeProto {
    /// The operands; an empty name leaves an optional one out.
    #[prost(string, repeated, tag = "1")]
    pub(crate) input: Vec<String>,
    /// The results; an empty name leaves one out.
    #[prost(string, repeated, tag = "2")]
    pub(crate) output: Vec<String>,
    /// A name; may be empty.
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub(crate) op_type: String,
    /// The attributes.
    #[prost(message, repeated, tag = "5")]
    pub(crate) attribute: Vec<AttributeProto>,
    /// The domain of the operator; empty for ONNX's own.
    #[prost(string, tag = "7")]
    pub(crate) domain: String,
    /// Tells functions of one name apart.
    #[prost(string, tag = "8")]
    pub(crate) overload: String,
}

/// An attribute: one of the fields is set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AttributeProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub(crate) f: Option<f32>,
    /// An integer.
    #[prost(int64, optional, tag = "3")]
    pub(crate) i: Option<i64>,
    /// A text.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub(crate) t: Option<TensorProto>,
    /// The body of a branch.
    #[prost(message, optional, tag = "6")]
    pub(crate) g: Option<GraphProto>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub(crate) floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(crate) ints: Vec<i64>,
    /// Texts.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(crate) strings: Vec<Bytes>,
    /// Which of the fields is meant; 0 in old files. Some writers leave zeros out.
    #[prost(int32, tag = "20")]
    pub(crate) kind: i32,
    /// In the body of a function: the attribute of the call that stands here.
    #[prost(string, tag = "21")]
    pub(crate) ref_attr_name: String,
}

/// A dense tensor: its elements are in exactly one of the data fields, or in another file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorProto {
    /// The extents, outermost first.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(crate) dims: Vec<i64>,
    /// The element type.
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    /// Elements of f32.
    #[prost(float, repeated, tag = "4")]
    pub(crate) float_data: Vec<f32>,
    /// Elements of integers up to 32 bits, truth values, and the bits of halves.
    #[prost(int32, repeated, tag = "5")]
    pub(crate) int32_data: Vec<i32>,
    /// Elements of i64.
    #[prost(int64, repeated, tag = "7")]
    pub(crate) int64_data: Vec<i64>,
    /// The name, as an initializer.
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    /// Elements of any type but text, little-endian, row-major.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) raw_data: Option<Bytes>,
    /// Elements of f64.
    #[prost(double, repeated, tag = "10")]
    pub(crate) double_data: Vec<f64>,
    /// Where the elements are when they are in another file.
    #[prost(message, repeated, tag = "13")]
    pub(crate) external_data: Vec<StringStringEntryProto>,
    /// 1 when the elements are in another file.
    #[prost(int32, tag = "14")]
    pub(crate) data_location: i32,
}

/// A key with a value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// A value with its type.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfoProto {
    /// The name.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<TypeProto>,
}

/// A type; only that of dense tensors is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeProto {
    /// The type of a dense tensor.
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor_type: Option<TensorTypeProto>,
}

/// The type of a dense tensor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorTypeProto {
    /// The element type.
    #[prost(int32, tag = "1")]
    pub(crate) elem_type: i32,
    /// The shape; absent when not even the number of axes is known.
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorShapeProto {
    /// The extents, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub(crate) dim: Vec<DimensionProto>,
}

/// An extent: a number, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DimensionProto {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub(crate) dim_value: Option<i64>,
    /// The name of an extent that is not known.
    #[prost(string, optional, tag = "2")]
    pub(crate) dim_param: Option<String>,
}

/// A function that nodes may call as an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FunctionProto {
    /// The name: the operator type of its calls.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// The names of the operands.
    #[prost(string, repeated, tag = "4")]
    pub(crate) input: Vec<String>,
    /// The names of the results.
    #[prost(string, repeated, tag = "5")]
    pub(crate) output: Vec<String>,
    /// Attributes that a call may give.
    #[prost(string, repeated, tag = "6")]
    pub(crate) attribute: Vec<String>,
    /// The body.
    #[prost(message, repeated, tag = "7")]
    pub(crate) node: Vec<NodeProto>,
    /// The versions of the operator sets that the body speaks.
    #[prost(message, repeated, tag = "9")]
    pub(crate) opset_import: Vec<OperatorSetIdProto>,
    /// The domain.
    #[prost(string, tag = "10")]
    pub(crate) domain: String,
    /// Attributes that a call may give, with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub(crate) attribute_proto: Vec<AttributeProto>,
    /// Tells functions of one name apart.
    #[prost(string, tag = "13")]
    pub(crate) overload: String,
}

/// A message whose contents are not read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unread {}

/// [`AttributeProto::kind`] of a number.
pub(crate) const KIND_FLOAT: i32 = 1;

/// [`AttributeProto::kind`] of an integer.
pub(crate) const KIND_INT: i32 = 2;

/// [`AttributeProto::kind`] of a text.
pub(crate) const KIND_STRING: i32 = 3;

/// The element types of the format that the compiler has, with their numbers.
pub(crate) const ELEMENT_TYPES: [(i32, compiler::DType); 9] = [
    (1, compiler::DType::F32),
    (2, compiler::DType::U8),
    (3, compiler::DType::I8),
    (6, compiler::DType::I32),
    (7, compiler::DType::I64),
    (9, compiler::DType::Bool),
    (10, compiler::DType::F16),
    (11, compiler::DType::F64),
    (16, compiler::DType::BF16),
];

/// The element type of that number, if the compiler has it.
pub(crate) fn element_type(number: i32) -> Option<compiler::DType> {
    let mut types = ELEMENT_TYPES.iter();
    types
        .find(|(other, _)| *other == number)
        .map(|&(_, dtype)| dtype)
}

/// The name of the element type of that number, for messages.
pub(crate) fn element_type_name(number: i32) -> String {
    if let Some(dtype) = element_type(number) {
        return dtype.name().to_owned();
    }
    let name = match number {
        0 => "undefined",
        4 => "uint16",
        5 => "int16",
        8 => "string",
        12 => "uint32",
        13 => "uint64",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        _ => return format!("element type {number}"),
    };
    name.to_owned()
}
