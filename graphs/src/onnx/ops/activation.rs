//! Activation functions that the graph IR has no operator for.
//!
//! Takes one operand, some a slope, returns the formula of ONNX in operators of the IR.
//! Exponentials of 16-bit floats are computed in f32.

use compiler::ops;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

/// `max(0, min(1, alpha · x + beta))`.
pub(crate) fn hard_sigmoid(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (alpha, beta) = (node.float_or("alpha", 0.2)?, node.float_or("beta", 0.5)?);
    let x = node.input(0, "X")?;
    Ok(vec![ramp(context, x, alpha, beta)?])
}

/// `x · max(0, min(1, x / 6 + 1 / 2))`.
pub(crate) fn hard_swish(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let gate = ramp(context, x, 1.0 / 6.0, 0.5)?;
    Ok(vec![context.push(ops::Mul, &[x, gate])?])
}

/// `max(0, min(1, alpha · x + beta))`.
pub(super) fn ramp(context: &mut Context, x: Wire, alpha: f64, beta: f64) -> Result<Wire> {
    let scaled = context.push_scalar(ops::Mul, x, alpha)?;
    let shifted = context.push_scalar(ops::Add, scaled, beta)?;
    let above = context.push_scalar(ops::Max, shifted, 0.0)?;
    context.push_scalar(ops::Min, above, 1.0)
}

/// `x` above 0, `alpha · x` below.
pub(crate) fn leaky_relu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let alpha = context.scalar(context.dtype(x), node.float_or("alpha", 0.01)?);
    Ok(vec![sloped(context, x, alpha)?])
}

/// `x` above 0, `slope · x` below; `slope` stretches to `x`.
pub(crate) fn prelu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, slope) = (node.input(0, "X")?, node.input(1, "slope")?);
    Ok(vec![sloped(context, x, slope)?])
}

/// `x` above 0, `slope · x` below.
pub(super) fn sloped(context: &mut Context, x: Wire, slope: Wire) -> Result<Wire> {
    let below = context.push(ops::Mul, &[x, slope])?;
    let positive = {
        let zero = context.scalar(context.dtype(x), 0.0);
        context.push(ops::Less, &[zero, x])?
    };
    context.push(ops::Select, &[positive, x, below])
}

/// `x` above 0, `alpha · (eˣ − 1)` below.
pub(crate) fn elu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let alpha = node.float_or("alpha", 1.0)?;
    let x = node.input(0, "X")?;
    Ok(vec![exponential_below(context, x, alpha, 1.0)?])
}

/// `gamma · x` above 0, `gamma · alpha · (eˣ − 1)` below.
pub(crate) fn selu(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let alpha = node.float_or("alpha", 1.673_263_2)?;
    let gamma = node.float_or("gamma", 1.050_701)?;
    let x = node.input(0, "X")?;
    Ok(vec![exponential_below(context, x, alpha, gamma)?])
}

/// `gamma · (max(x, 0) + alpha · (e^min(x, 0) − 1))`.
fn exponential_below(context: &mut Context, x: Wire, alpha: f64, gamma: f64) -> Result<Wire> {
    context.in_f32(x, |context, x| {
        let above = context.push_scalar(ops::Max, x, 0.0)?;
        let below = context.push_scalar(ops::Min, x, 0.0)?;
        let power = context.push(ops::Exp, &[below])?;
        let power = context.push_scalar(ops::Add, power, -1.0)?;
        let below = context.push_scalar(ops::Mul, power, alpha)?;
        let sum = context.push(ops::Add, &[above, below])?;
        context.push_scalar(ops::Mul, sum, gamma)
    })
}

/// `ln(1 + eˣ)`.
pub(crate) fn softplus(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    Ok(vec![context.in_f32(x, log_of_one_plus_exp)?])
}

/// `x · tanh(ln(1 + eˣ))`.
pub(crate) fn mish(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let result = context.in_f32(x, |context, x| {
        let plus = log_of_one_plus_exp(context, x)?;
        let gate = context.push(ops::Tanh, &[plus])?;
        context.push(ops::Mul, &[x, gate])
    });
    Ok(vec![result?])
}

/// `max(x, 0) + ln(1 + e^−|x|)`, which does not overflow.
fn log_of_one_plus_exp(context: &mut Context, x: Wire) -> Result<Wire> {
    let above = context.push_scalar(ops::Max, x, 0.0)?;
    let size = context.push(ops::Abs, &[x])?;
    let negative = context.push(ops::Neg, &[size])?;
    let power = context.push(ops::Exp, &[negative])?;
    let shifted = context.push_scalar(ops::Add, power, 1.0)?;
    let log = context.push(ops::Log, &[shifted])?;
    context.push(ops::Add, &[above, log])
}

/// `x / (1 + |x|)`.
pub(crate) fn softsign(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let size = context.push(ops::Abs, &[x])?;
    let divisor = context.push_scalar(ops::Add, size, 1.0)?;
    Ok(vec![context.push(ops::Div, &[x, divisor])?])
}

/// Terms of the series of the arc tangent: its argument is below 0.2, so that the first term left
/// out is below the precision of f64.
const ATAN_TERMS: u32 = 11;

/// The arc tangent, by `atan x = π/2 − atan 1/x` above 1, twice
/// `atan x = 2 · atan(x / (1 + √(1 + x²)))`, and the series `x − x³/3 + x⁵/5 − …` (Abramowitz and
/// Stegun 1964, 4.4.42 and 4.4.34).
pub(crate) fn atan(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let result = context.in_f32(x, |context, x| {
        let size = context.push(ops::Abs, &[x])?;
        let inverse = context.push(ops::Reciprocal, &[size])?;
        let mut t = context.push(ops::Min, &[size, inverse])?;
        for _ in 0..2 {
            let square = context.push(ops::Mul, &[t, t])?;
            let square = context.push_scalar(ops::Add, square, 1.0)?;
            let root = context.push(ops::Sqrt, &[square])?;
            let divisor = context.push_scalar(ops::Add, root, 1.0)?;
            t = context.push(ops::Div, &[t, divisor])?;
        }
        let square = context.push(ops::Mul, &[t, t])?;
        let coefficient = |term: u32| {
            let sign = if term.is_multiple_of(2) { 4.0 } else { -4.0 };
            sign / f64::from(2 * term + 1)
        };
        let mut sum = context.scalar(context.dtype(x), coefficient(ATAN_TERMS - 1));
        for term in (0..ATAN_TERMS - 1).rev() {
            let product = context.push(ops::Mul, &[sum, square])?;
            sum = context.push_scalar(ops::Add, product, coefficient(term))?;
        }
        let small = context.push(ops::Mul, &[sum, t])?;
        let right_angle = context.scalar(context.dtype(x), std::f64::consts::FRAC_PI_2);
        let large = context.push(ops::Sub, &[right_angle, small])?;
        let beyond = context.push(ops::Less, &[inverse, size])?;
        let result = context.push(ops::Select, &[beyond, large, small])?;
        let opposite = context.push(ops::Neg, &[result])?;
        let zero = context.scalar(context.dtype(x), 0.0);
        let negative = context.push(ops::Less, &[x, zero])?;
        context.push(ops::Select, &[negative, opposite, result])
    });
    Ok(vec![result?])
}
