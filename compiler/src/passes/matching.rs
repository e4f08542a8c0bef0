//! Questions that patterns ask about values: which operator, which number, which shape.
//!
//! Takes values of the function being built, gives facts; it changes nothing.

use super::editor::Editor;
use crate::graph::Value;
use crate::ops::Op;
use crate::value::dim::Dim;
use crate::value::dtype::DType;
use crate::value::tensor::{Tensor, Values};

/// The operator and operands of the node that defines a value, if it is of that kind.
macro_rules! node_as {
    ($editor:expr, $value:expr, $op:ident) => {
        $editor.node($value).and_then(|node| match &node.op {
            crate::ops::Op::$op(op) => Some((op, node.operands.as_slice())),
            _ => None,
        })
    };
}
pub(super) use node_as;

/// The operands of a site, if it is of that kind.
macro_rules! site_as {
    ($site:expr, $op:ident) => {
        match $site.op {
            crate::ops::Op::$op(op) => Some((op, $site.operands)),
            _ => None,
        }
    };
}
pub(super) use site_as;

/// The one number that all elements of a constant are; `None` when they differ or are none.
pub(super) fn splat(tensor: &Tensor) -> Option<f64> {
    let (bytes, width) = (tensor.bytes(), tensor.dtype().bytes());
    if bytes.is_empty() || bytes[width..] != bytes[..bytes.len() - width] {
        return None;
    }
    let one = Tensor::new(tensor.dtype(), Vec::new(), bytes.slice(..width)).ok()?;
    match one.values() {
        Values::Float(values) => values.first().copied(),
        Values::Int(values) => values.first().map(|&value| value as f64),
        Values::Bool(values) => values.first().map(|&value| f64::from(u8::from(value))),
    }
}

/// The one number that all elements of a value are, through broadcasts and reshapes.
pub(super) fn number(editor: &Editor, value: Value) -> Option<f64> {
    let node = editor.node(value)?;
    match &node.op {
        Op::Constant(constant) => splat(&constant.tensor),
        Op::Broadcast(_) | Op::Reshape(_) => number(editor, node.operands[0]),
        _ => None,
    }
}

/// The operand that is one number, and the other one; for operators whose operands commute.
pub(super) fn with_number(editor: &Editor, operands: &[Value]) -> Option<(Value, f64)> {
    let (a, b) = (operands[0], operands[1]);
    match number(editor, b) {
        Some(value) => Some((a, value)),
        None => number(editor, a).map(|value| (b, value)),
    }
}

/// Whether a constant of that element type means `wanted`: exporters round what they write, also
/// in f64, to f32 or to the type.
pub(super) fn means(dtype: DType, found: f64, wanted: f64) -> bool {
    let unit = match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 | DType::F64 => 2f64.powi(-23),
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => 0.0,
    };
    (found - wanted).abs() <= unit * wanted.abs()
}

/// Whether every value of `from` is a value of `to`.
pub(super) fn contains(to: DType, from: DType) -> bool {
    use DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8};
    match (from, to) {
        _ if from == to => true,
        (Bool, _) | (U8 | I8, F16 | F32 | F64 | I32 | I64) => true,
        (I8 | U8, BF16) => true,
        (F16 | BF16, F32 | F64) | (F32, F64) => true,
        (I32, I64 | F64) => true,
        (U8 | I8 | I32 | I64 | F16 | BF16 | F32 | F64, _) => false,
    }
}

/// The shape without its leading extents of 1.
pub(super) fn without_leading_ones(shape: &[Dim]) -> &[Dim] {
    let ones = shape.iter().take_while(|dim| dim.is(1)).count();
    &shape[ones..]
}

/// Both orders of two operands, for operators that commute.
pub(super) fn either_way(operands: &[Value]) -> [(Value, Value); 2] {
    [(operands[0], operands[1]), (operands[1], operands[0])]
}

/// What `value` is a constant multiple of, and the factor: 1 of itself.
pub(super) fn scaled(editor: &Editor, value: Value) -> (Value, f64) {
    let (mut at, mut factor) = (value, 1.0);
    loop {
        let Some(node) = editor.node(at) else {
            return (at, factor);
        };
        let inner = match &node.op {
            Op::Mul(_) => with_number(editor, &node.operands),
            Op::Div(_) => {
                number(editor, node.operands[1]).map(|divisor| (node.operands[0], 1.0 / divisor))
            }
            _ => None,
        };
        match inner.filter(|(inner, _)| editor.ty(*inner) == editor.ty(value)) {
            Some((inner, by)) => (at, factor) = (inner, factor * by),
            None => return (at, factor),
        }
    }
}

/// A constant times other values.
#[derive(Debug)]
pub(super) struct Product {
    /// The constant.
    pub(super) factor: f64,
    /// The other values, as often as they are factors.
    pub(super) values: Vec<Value>,
}

/// Products are read so far; no spelling has more factors.
const FACTORS_MAX: usize = 16;

/// Multiplies out the product of `values`; those in `whole` are not taken apart.
pub(super) fn product(editor: &Editor, values: &[Value], whole: &[Value]) -> Option<Product> {
    let (mut factor, mut found) = (1.0, Vec::new());
    let mut open = values.to_vec();
    let mut seen = 0;
    while let Some(value) = open.pop() {
        seen += 1;
        if seen > FACTORS_MAX {
            return None;
        }
        if let Some(number) = number(editor, value) {
            factor *= number;
            continue;
        }
        match node_as!(editor, value, Mul) {
            Some((_, operands)) if !whole.contains(&value) => open.extend(operands),
            Some(_) | None => match node_as!(editor, value, Div) {
                Some((_, operands)) if !whole.contains(&value) => {
                    factor /= number(editor, operands[1])?;
                    open.push(operands[0]);
                }
                Some(_) | None => found.push(value),
            },
        }
    }
    Some(Product {
        factor,
        values: found,
    })
}
