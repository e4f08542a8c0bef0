//! What functions give: for the interpreter of all invocations at once, for numbers that are known.
//!
//! Takes the words of the operands, one for each lane and invocation, gives those of the value.
//! Numbers are computed as WGSL asks: integers wrap, f32 is IEEE 754. It knows no memory and
//! reports no fault: what may not be computed is refused before.

use std::cmp::Ordering;

use half::f16;

use crate::kernel::{Binary, Constant, Expression, Half, Scalar, Unary, Value};

/// The word of a number.
pub(super) fn word(constant: Constant) -> u32 {
    match constant {
        Constant::Bool(truth) => truth.into(),
        Constant::I32(number) => number.cast_unsigned(),
        Constant::U32(number) => number,
        Constant::F32(number) => number.to_bits(),
    }
}

/// The number of a word; no constant is of f16.
pub(super) fn constant(scalar: Scalar, word: u32) -> Option<Constant> {
    match scalar {
        Scalar::Bool => Some(Constant::Bool(word != 0)),
        Scalar::I32 => Some(Constant::I32(word.cast_signed())),
        Scalar::U32 => Some(Constant::U32(word)),
        Scalar::F16 => None,
        Scalar::F32 => Some(Constant::F32(f32::from_bits(word))),
    }
}

/// The word of an expression of one lane whose operands are known; `None` where one is not, where
/// there is no value, and for what invocations differ in.
pub(super) fn known(
    expression: &Expression,
    scalar: impl Fn(Value) -> Scalar,
    operand: impl Fn(Value) -> Option<u32>,
) -> Option<u32> {
    let mut to = [0];
    match expression {
        Expression::Constant(constant) => to = [word(*constant)],
        Expression::Unary(function, x) => {
            unary(&mut to, *function, scalar(*x), &[operand(*x)?]);
        }
        Expression::Binary(function, a, b) => {
            let (scalar, a, b) = (scalar(*a), operand(*a)?, operand(*b)?);
            if !function.has_value(scalar, Some(b)) {
                return None;
            }
            binary(&mut to, *function, scalar, [&[a], &[b]]);
        }
        Expression::Select(condition, yes, no) => {
            let chosen = if operand(*condition)? != 0 { yes } else { no };
            to = [operand(*chosen)?];
        }
        Expression::Convert(into, x) => convert(&mut to, *into, scalar(*x), &[operand(*x)?]),
        Expression::Bits(_, x) => to = [operand(*x)?],
        Expression::Builtin(_)
        | Expression::Fma(..)
        | Expression::Splat(..)
        | Expression::Extract(..)
        | Expression::ExtractAt(..)
        | Expression::Compose(_)
        | Expression::Unpack(_)
        | Expression::Pack(_)
        | Expression::Mma(..)
        | Expression::Shuffle(..)
        | Expression::LoadMatrix(_)
        | Expression::Load(..) => return None,
    }
    let [word] = to;
    Some(word)
}

fn each(to: &mut [u32], x: &[u32], f: impl Fn(u32) -> u32) {
    for (to, x) in to.iter_mut().zip(x) {
        *to = f(*x);
    }
}

fn single(to: &mut [u32], x: &[u32], f: impl Fn(f32) -> f32) {
    each(to, x, |x| f(f32::from_bits(x)).to_bits());
}

/// A function of one operand whose lanes are of type `scalar`.
pub(super) fn unary(to: &mut [u32], function: Unary, scalar: Scalar, x: &[u32]) {
    let is_integer = scalar == Scalar::I32;
    match function {
        Unary::Neg if is_integer => each(to, x, u32::wrapping_neg),
        Unary::Neg => single(to, x, |x| -x),
        Unary::Not => each(to, x, |x| 1 - x.min(1)),
        Unary::Abs if is_integer => each(to, x, |x| x.cast_signed().unsigned_abs()),
        Unary::Abs => single(to, x, f32::abs),
        Unary::Exp => single(to, x, libm::expf),
        Unary::Log => single(to, x, libm::logf),
        Unary::Sqrt => single(to, x, f32::sqrt),
        Unary::InverseSqrt => single(to, x, |x| 1.0 / x.sqrt()),
        Unary::Sin => single(to, x, libm::sinf),
        Unary::Cos => single(to, x, libm::cosf),
        Unary::Floor => single(to, x, f32::floor),
        Unary::Ceil => single(to, x, f32::ceil),
        Unary::Round => single(to, x, f32::round_ties_even),
        Unary::Trunc => single(to, x, f32::trunc),
    }
}

fn pairs(to: &mut [u32], [a, b]: [&[u32]; 2], f: impl Fn(u32, u32) -> u32) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = f(*a, *b);
    }
}

fn floats(to: &mut [u32], operands: [&[u32]; 2], f: impl Fn(f32, f32) -> f32) {
    let bits = |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits();
    pairs(to, operands, bits);
}

/// A function of each type of numbers, or of their words.
fn numbers(
    to: &mut [u32],
    scalar: Scalar,
    operands: [&[u32]; 2],
    float: impl Fn(f32, f32) -> f32,
    signed: impl Fn(i32, i32) -> i32,
    word: impl Fn(u32, u32) -> u32,
) {
    match scalar {
        Scalar::F32 => floats(to, operands, float),
        Scalar::I32 => pairs(to, operands, |a, b| {
            signed(a.cast_signed(), b.cast_signed()).cast_unsigned()
        }),
        Scalar::U32 | Scalar::Bool | Scalar::F16 => pairs(to, operands, word),
    }
}

/// Compares numbers of each type, or their words.
fn compared(to: &mut [u32], scalar: Scalar, operands: [&[u32]; 2], is: impl Fn(Ordering) -> bool) {
    match scalar {
        Scalar::F32 => pairs(to, operands, |a, b| {
            let order = f32::from_bits(a).partial_cmp(&f32::from_bits(b));
            order.is_some_and(&is).into()
        }),
        Scalar::I32 => pairs(to, operands, |a, b| {
            is(a.cast_signed().cmp(&b.cast_signed())).into()
        }),
        Scalar::U32 | Scalar::Bool | Scalar::F16 => {
            pairs(to, operands, |a, b| is(a.cmp(&b)).into());
        }
    }
}

/// A function of two operands whose lanes are of type `scalar`.
pub(super) fn binary(to: &mut [u32], function: Binary, scalar: Scalar, x: [&[u32]; 2]) {
    match function {
        Binary::Add => numbers(
            to,
            scalar,
            x,
            |a, b| a + b,
            i32::wrapping_add,
            u32::wrapping_add,
        ),
        Binary::Sub => numbers(
            to,
            scalar,
            x,
            |a, b| a - b,
            i32::wrapping_sub,
            u32::wrapping_sub,
        ),
        Binary::Mul => numbers(
            to,
            scalar,
            x,
            |a, b| a * b,
            i32::wrapping_mul,
            u32::wrapping_mul,
        ),
        // What has no value is 0.
        Binary::Div => {
            let signed = |a: i32, b: i32| if b == 0 { 0 } else { a.wrapping_div(b) };
            let word = |a: u32, b: u32| a.checked_div(b).unwrap_or(0);
            numbers(to, scalar, x, |a, b| a / b, signed, word);
        }
        Binary::Rem => {
            let signed = |a: i32, b: i32| if b == 0 { 0 } else { a.wrapping_rem(b) };
            let word = |a: u32, b: u32| a.checked_rem(b).unwrap_or(0);
            numbers(to, scalar, x, |a, b| a % b, signed, word);
        }
        Binary::Min => numbers(to, scalar, x, f32::min, i32::min, u32::min),
        Binary::Max => numbers(to, scalar, x, f32::max, i32::max, u32::max),
        Binary::Pow => floats(to, x, libm::powf),
        Binary::And => pairs(to, x, |a, b| a & b),
        Binary::Or => pairs(to, x, |a, b| a | b),
        Binary::Xor => pairs(to, x, |a, b| a ^ b),
        Binary::ShiftLeft => pairs(to, x, u32::wrapping_shl),
        Binary::ShiftRight if scalar == Scalar::I32 => pairs(to, x, |a, b| {
            a.cast_signed().wrapping_shr(b).cast_unsigned()
        }),
        Binary::ShiftRight => pairs(to, x, u32::wrapping_shr),
        Binary::Less => compared(to, scalar, x, Ordering::is_lt),
        Binary::LessEqual => compared(to, scalar, x, Ordering::is_le),
        Binary::Equal => compared(to, scalar, x, Ordering::is_eq),
    }
}

/// `a · b + c`, rounded twice.
pub(super) fn fma(to: &mut [u32], [a, b, c]: [&[u32]; 3]) {
    let operands = a.iter().zip(b).zip(c);
    for (to, ((a, b), c)) in to.iter_mut().zip(operands) {
        *to = (f32::from_bits(*a) * f32::from_bits(*b) + f32::from_bits(*c)).to_bits();
    }
}

/// The second where the first, of one lane, holds; else the third.
pub(super) fn select(to: &mut [u32], [condition, yes, no]: [&[u32]; 3]) {
    let lane = condition.len();
    let operands = yes.chunks_exact(lane).zip(no.chunks_exact(lane));
    for (to, (yes, no)) in to.chunks_exact_mut(lane).zip(operands) {
        let pairs = yes.iter().zip(no);
        for ((to, (yes, no)), condition) in to.iter_mut().zip(pairs).zip(condition) {
            *to = if *condition != 0 { *yes } else { *no };
        }
    }
}

/// The number in another type.
pub(super) fn convert(to: &mut [u32], scalar: Scalar, from: Scalar, x: &[u32]) {
    fn half(x: u32) -> f32 {
        f16::from_bits(x as u16).to_f32()
    }
    fn to_half(x: f32) -> u32 {
        f16::from_f32(x).to_bits().into()
    }
    match (scalar, from) {
        (Scalar::Bool, Scalar::F32) => each(to, x, |x| (f32::from_bits(x) != 0.0).into()),
        (Scalar::Bool, Scalar::F16) => each(to, x, |x| (half(x) != 0.0).into()),
        (Scalar::Bool, _) => each(to, x, |x| (x != 0).into()),
        (Scalar::I32, Scalar::F32) => each(to, x, |x| (f32::from_bits(x) as i32).cast_unsigned()),
        (Scalar::I32, Scalar::F16) => each(to, x, |x| (half(x) as i32).cast_unsigned()),
        (Scalar::U32, Scalar::F32) => each(to, x, |x| f32::from_bits(x) as u32),
        (Scalar::U32, Scalar::F16) => each(to, x, |x| half(x) as u32),
        (Scalar::I32 | Scalar::U32, _) => to.copy_from_slice(x),
        (Scalar::F32, Scalar::I32) => each(to, x, |x| (x.cast_signed() as f32).to_bits()),
        (Scalar::F32, Scalar::F16) => each(to, x, |x| half(x).to_bits()),
        (Scalar::F32, _) => each(to, x, |x| (x as f32).to_bits()),
        (Scalar::F16, Scalar::F32) => each(to, x, |x| to_half(f32::from_bits(x))),
        (Scalar::F16, Scalar::I32) => each(to, x, |x| to_half(x.cast_signed() as f32)),
        (Scalar::F16, _) => each(to, x, |x| to_half(x as f32)),
    }
}

/// The two f16 of each word.
pub(super) fn unpack(to: &mut [u32], x: &[u32]) {
    let (low, high) = to.split_at_mut(x.len());
    each(low, x, |x| f16::from_bits(x as u16).to_f32().to_bits());
    each(high, x, |x| {
        f16::from_bits((x >> 16) as u16).to_f32().to_bits()
    });
}

/// Two lanes of f32 as f16 in a word.
pub(super) fn pack(to: &mut [u32], x: &[u32]) {
    pairs(to, x.split_at(to.len()).into(), |low, high| {
        let bits = |x| u32::from(f16::from_f32(f32::from_bits(x)).to_bits());
        bits(low) | bits(high) << 16
    });
}

/// The products of every warp, as [`Expression::Mma`] says; sums are exact before they are rounded.
pub(super) fn mma(to: &mut [u32], half: Half, [a, b, c]: [&[u32]; 3]) {
    let size = to.len() / 4;
    // Four words of A are a depth of 16, two of 8.
    let depths = a.len() / size * 4;
    let number = |word: u32, upper: usize| {
        let bits = (word >> (16 * upper)) as u16;
        f64::from(match half {
            Half::F16 => f16::from_bits(bits).to_f32(),
            Half::Bf16 => f32::from_bits(u32::from(bits) << 16),
        })
    };
    for warp in (0..size).step_by(32) {
        // Who holds an element of A at a row and a depth, in which word and half; B alike.
        let left = |row: usize, depth: usize| {
            let who = warp + row % 8 * 4 + depth % 8 / 2;
            let word = row / 8 + depth / 8 * 2;
            number(a[word * size + who], depth % 2)
        };
        let right = |column: usize, depth: usize| {
            let who = warp + column * 4 + depth % 8 / 2;
            number(b[depth / 8 * size + who], depth % 2)
        };
        for who in 0..32 {
            for place in 0..4 {
                let (row, column) = (who / 4 + place / 2 * 8, who % 4 * 2 + place % 2);
                let at = place * size + warp + who;
                let sum: f64 = (0..depths)
                    .map(|depth| left(row, depth) * right(column, depth))
                    .sum();
                to[at] = ((f64::from(f32::from_bits(c[at])) + sum) as f32).to_bits();
            }
        }
    }
}

/// What the invocation whose number differs in these bits has.
pub(super) fn shuffle(to: &mut [u32], x: &[u32], bits: u8, size: usize) {
    for (at, to) in to.iter_mut().enumerate() {
        let who = at % size;
        *to = x[at - who + (who ^ usize::from(bits))];
    }
}
