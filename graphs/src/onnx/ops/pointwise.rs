//! Operators that work element by element.
//!
//! Takes operands that broadcast by NumPy's rule, gives their IR operators; element types that ONNX
//! lets differ are cast here.

use compiler::DType;
use compiler::ops;
use compiler::ops::Op;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

fn unary(context: &mut Context, node: &Node<'_>, op: impl Into<Op>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    Ok(vec![context.push(op, &[x])?])
}

fn binary(context: &mut Context, node: &Node<'_>, op: impl Into<Op>) -> Result<Vec<Wire>> {
    let (a, b) = (node.input(0, "A")?, node.input(1, "B")?);
    Ok(vec![context.push(op, &[a, b])?])
}

/// A comparison with its operands exchanged: `a > b` is `b < a`.
fn exchanged(context: &mut Context, node: &Node<'_>, op: impl Into<Op>) -> Result<Vec<Wire>> {
    let (a, b) = (node.input(0, "A")?, node.input(1, "B")?);
    Ok(vec![context.push(op, &[b, a])?])
}

/// Any number of operands, two at a time.
fn variadic(
    context: &mut Context,
    node: &Node<'_>,
    op: impl Into<Op> + Clone,
) -> Result<Vec<Wire>> {
    let wires = node.variadic("data")?;
    let mut result = wires[0];
    for &wire in &wires[1..] {
        result = context.push(op.clone(), &[result, wire])?;
    }
    Ok(vec![result])
}

macro_rules! lowerings {
    ($shape:ident: $($name:ident = $op:ident),* $(,)?) => {
        $(pub(crate) fn $name(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
            $shape(context, node, ops::$op)
        })*
    };
}

lowerings! { unary:
    abs = Abs, ceil = Ceil, cos = Cos, erf = Erf, exp = Exp, floor = Floor, is_nan = IsNan,
    log = Log, neg = Neg, not = Not, reciprocal = Reciprocal, relu = Relu, round = Round,
    sigmoid = Sigmoid, sin = Sin, sqrt = Sqrt, tanh = Tanh,
}
lowerings! { binary:
    add = Add, and = And, div = Div, equal = Equal, less = Less, less_or_equal = LessEqual,
    mul = Mul, or = Or, sub = Sub,
}
lowerings! { exchanged: greater = Less, greater_or_equal = LessEqual }
lowerings! { variadic: max = Max, min = Min, sum = Add }

/// `x^y` in the type of `x`; a float exponent of an integer base is computed in f64.
pub(crate) fn pow(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, y) = (node.input(0, "X")?, node.input(1, "Y")?);
    let (base, exponent) = (context.dtype(x), context.dtype(y));
    let common = match base.is_int() && exponent.is_float() {
        true => DType::F64,
        false => base,
    };
    let (x, y) = (context.cast(x, common)?, context.cast(y, common)?);
    let result = context.push(ops::Pow, &[x, y])?;
    Ok(vec![context.cast(result, base)?])
}

/// `min(max(x, low), high)`; bounds are attributes before opset 11, then optional operands.
pub(crate) fn clip(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let dtype = context.dtype(x);
    let (mut low, mut high) = (node.optional(1), node.optional(2));
    if node.has("min") {
        low = Some(context.scalar(dtype, node.float_or("min", f32::MIN)?));
    }
    if node.has("max") {
        high = Some(context.scalar(dtype, node.float_or("max", f32::MAX)?));
    }
    let mut result = x;
    if let Some(low) = low {
        result = context.push(ops::Max, &[result, low])?;
    }
    if let Some(high) = high {
        result = context.push(ops::Min, &[result, high])?;
    }
    Ok(vec![result])
}

pub(crate) fn gelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let approximate = node.text_or("approximate", "none")?;
    let form = match approximate.as_str() {
        "none" => ops::GeluForm::Erf,
        "tanh" => ops::GeluForm::Tanh,
        _ => return Err(node.refuse("approximate", approximate, "\"none\" or \"tanh\"")),
    };
    unary(context, node, ops::Gelu { form })
}

/// `x · sigmoid(alpha · x)`.
pub(crate) fn swish(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let alpha = node.float_or("alpha", 1.0)?;
    if alpha == 1.0 {
        return unary(context, node, ops::Silu);
    }
    let alpha = context.scalar(context.dtype(x), alpha);
    let scaled = context.push(ops::Mul, &[x, alpha])?;
    let gate = context.push(ops::Sigmoid, &[scaled])?;
    Ok(vec![context.push(ops::Mul, &[x, gate])?])
}

pub(crate) fn select(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let condition = node.input(0, "condition")?;
    let (x, y) = (node.input(1, "X")?, node.input(2, "Y")?);
    Ok(vec![context.push(ops::Select, &[condition, x, y])?])
}

/// The remainder with the sign of the divisor, or of the dividend with `fmod` = 1.
pub(crate) fn modulo(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (a, b) = (node.input(0, "A")?, node.input(1, "B")?);
    if context.dtype(a).is_float() {
        return Err(node.refuse("fmod", "used on floats", "integer operands"));
    }
    let quotient = context.push(ops::Div, &[a, b])?;
    let whole = context.push(ops::Mul, &[quotient, b])?;
    let rest = context.push(ops::Sub, &[a, whole])?;
    if node.flag("fmod", false)? {
        return Ok(vec![rest]);
    }
    // A remainder of the other sign than the divisor is one divisor off.
    let shifted = context.push(ops::Add, &[rest, b])?;
    let whole = context.push(ops::Div, &[shifted, b])?;
    let whole = context.push(ops::Mul, &[whole, b])?;
    Ok(vec![context.push(ops::Sub, &[shifted, whole])?])
}
