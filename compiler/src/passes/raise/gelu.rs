//! `x/2 · (1 + erf(x/√2))`, its approximation by tanh, and `x · sigmoid(1.702 x)` → `gelu(x)`.
//!
//! The factors may be multiplied in any order; halves may stand anywhere. Hendrycks and Gimpel
//! 2016 (arXiv 1606.08415), section 2.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use crate::graph::Value;
use crate::ops::{Gelu, GeluForm};
use crate::passes::editor::{Edit, Editor, Outcome, Site, Stop::NoMatch};
use crate::passes::matching::{
    Product, means, node_as, number, product, scaled, site_as, with_number,
};
use crate::value::dtype::DType;

pub(super) fn apply(site: &Site<'_>, editor: &mut Editor) -> Outcome {
    let (_, operands) = site_as!(site, Mul).ok_or(NoMatch)?;
    let (x, form) = find(editor, site.ty.dtype, operands).ok_or(NoMatch)?;
    let result = editor.push(Gelu { form }, &[x])?;
    Edit::of(
        result,
        format!("{x} times its share of the normal distribution"),
    )
}

/// The argument and the form. The leaves of the tree of products hold `x` and the gate; `x` may
/// be a product itself.
fn find(editor: &Editor, dtype: DType, operands: &[Value]) -> Option<(Value, GeluForm)> {
    let mut inside = Vec::new();
    for &operand in operands {
        subproducts(editor, operand, 3, &mut inside);
    }
    let gates = inside
        .iter()
        .filter_map(|&value| Some((value, gate(editor, value)?)));
    for (value, gate) in gates.collect::<Vec<_>>() {
        for &x in inside.iter().filter(|&&x| x != value) {
            let Some(Product { factor, values }) = product(editor, operands, &[x, value]) else {
                continue;
            };
            let both = values == [x, value] || values == [value, x];
            let Some((form, wanted)) = form(editor, dtype, &gate, x) else {
                continue;
            };
            if both && means(dtype, factor * gate.factor, wanted) {
                return Some((x, form));
            }
        }
    }
    None
}

/// Every value that is a factor of `value`, and of its factors, to a depth.
fn subproducts(editor: &Editor, value: Value, depth: usize, found: &mut Vec<Value>) {
    found.push(value);
    if let (Some((_, operands)), Some(depth)) = (node_as!(editor, value, Mul), depth.checked_sub(1))
    {
        for &operand in operands {
            subproducts(editor, operand, depth, found);
        }
    }
}

/// `factor · (1 + curve(argument))`, or `factor · sigmoid(argument)`.
struct Gate {
    curve: GeluForm,
    factor: f64,
    argument: Value,
}

fn gate(editor: &Editor, value: Value) -> Option<Gate> {
    if let Some((_, inner)) = node_as!(editor, value, Sigmoid) {
        return Some(Gate {
            curve: GeluForm::Quick,
            factor: 1.0,
            argument: inner[0],
        });
    }
    let (_, operands) = node_as!(editor, value, Add)?;
    let (curve, one) = with_number(editor, operands)?;
    let (curve, factor) = scaled(editor, curve);
    let erf = node_as!(editor, curve, Erf).map(|(_, inner)| (GeluForm::Erf, inner[0]));
    let tanh = node_as!(editor, curve, Tanh).map(|(_, inner)| (GeluForm::Tanh, inner[0]));
    let (form, argument) = erf.or(tanh)?;
    (one == factor).then_some(Gate {
        curve: form,
        factor,
        argument,
    })
}

/// The form, if the gate's argument is the one that it needs, and the constant factor wanted.
fn form(editor: &Editor, dtype: DType, gate: &Gate, x: Value) -> Option<(GeluForm, f64)> {
    let (inner, factor) = scaled(editor, gate.argument);
    match gate.curve {
        GeluForm::Quick => {
            (inner == x && means(dtype, factor, 1.702)).then_some((GeluForm::Quick, 1.0))
        }
        GeluForm::Erf => {
            (inner == x && means(dtype, factor, FRAC_1_SQRT_2)).then_some((GeluForm::Erf, 0.5))
        }
        GeluForm::Tanh => {
            // √(2/π) = (2/√π)/√2.
            let right = means(dtype, factor, FRAC_2_SQRT_PI / SQRT_2);
            (right && is_cubic(editor, dtype, inner, x)).then_some((GeluForm::Tanh, 0.5))
        }
    }
}

/// Whether `value` is `x + 0.044715 x³`, or `x · (1 + 0.044715 x²)`.
fn is_cubic(editor: &Editor, dtype: DType, value: Value, x: Value) -> bool {
    const CUBIC: f64 = 0.044715;
    let powers = |value: Value, count: usize| {
        product(editor, &[value], &[x]).is_some_and(|Product { factor, values }| {
            means(dtype, factor, CUBIC) && exponent(editor, &values, x) == Some(count)
        })
    };
    if let Some((_, sum)) = node_as!(editor, value, Add) {
        return (sum[0] == x && powers(sum[1], 3)) || (sum[1] == x && powers(sum[0], 3));
    }
    let Some((_, factors)) = node_as!(editor, value, Mul) else {
        return false;
    };
    let other = if factors[0] == x {
        factors[1]
    } else {
        factors[0]
    };
    let sum = node_as!(editor, other, Add).and_then(|(_, sum)| with_number(editor, sum));
    factors.contains(&x) && sum.is_some_and(|(square, one)| one == 1.0 && powers(square, 2))
}

/// The exponent of a product of powers of `x`.
fn exponent(editor: &Editor, values: &[Value], x: Value) -> Option<usize> {
    let each = values.iter().map(|&value| {
        if value == x {
            return Some(1);
        }
        let (_, operands) = node_as!(editor, value, Pow)?;
        let exponent = number(editor, operands[1])?;
        [2usize, 3]
            .into_iter()
            .find(|&n| operands[0] == x && exponent == n as f64)
    });
    each.sum()
}
