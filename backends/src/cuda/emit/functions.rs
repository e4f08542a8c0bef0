//! Functions of lanes as instructions of PTX.
//!
//! Takes a function and its operands as text, gives the lines that compute it. One function is one
//! instruction where the processor has it; else a fixed sequence, with its error.

use compiler::kernel::{Binary, Scalar, Unary};

use super::registers::{Class, Registers};

/// log2(e).
const LOG2_E: &str = "0f3FB8AA3B";
/// ln(2).
const LN_2: &str = "0f3F317218";
/// 1 / 2π.
const INVERSE_TURN: &str = "0f3E22F983";
/// −2π in three parts, the first two with so few digits that whole multiples of them are exact.
const TURN: [&str; 3] = ["0fC0C90000", "0fBAFDA000", "0fB4A22169"];

/// The lines of a function of one operand, whose result is `to`.
pub(super) fn unary(
    registers: &mut Registers,
    function: Unary,
    scalar: Scalar,
    to: &str,
    x: &str,
) -> Vec<String> {
    let ty = arithmetic(scalar);
    let one = |instruction: &str| vec![format!("{instruction} {to}, {x};")];
    match function {
        Unary::Neg => one(&format!("neg.{ty}")),
        Unary::Abs => one(&format!("abs.{ty}")),
        Unary::Not => one("not.pred"),
        // e^x = 2^(x · log2 e): relative error of 2^-22 and 2^-24 for each unit of x · log2 e.
        Unary::Exp => {
            let scaled = registers.fresh(Class::F32);
            vec![
                format!("mul.rn.f32 {scaled}, {x}, {LOG2_E};"),
                format!("ex2.approx.f32 {to}, {scaled};"),
            ]
        }
        // Absolute error of 2^-22 near 1, relative elsewhere.
        Unary::Log => {
            let binary = registers.fresh(Class::F32);
            vec![
                format!("lg2.approx.f32 {binary}, {x};"),
                format!("mul.rn.f32 {to}, {binary}, {LN_2};"),
            ]
        }
        Unary::Sqrt => one("sqrt.rn.f32"),
        // Within two units in the last place.
        Unary::InverseSqrt => one("rsqrt.approx.f32"),
        Unary::Sin => turned(registers, "sin.approx.f32", to, x),
        Unary::Cos => turned(registers, "cos.approx.f32", to, x),
        Unary::Floor => one("cvt.rmi.f32.f32"),
        Unary::Ceil => one("cvt.rpi.f32.f32"),
        Unary::Round => one("cvt.rni.f32.f32"),
        Unary::Trunc => one("cvt.rzi.f32.f32"),
    }
}

/// A function of an angle, of which whole turns are taken away first: within ±π its absolute error
/// is 2^-20.5, further away it is not bounded.
///
/// # Source
/// Cody and Waite 1980, "Software manual for the elementary functions", chapter 8: the period in
/// several parts.
fn turned(registers: &mut Registers, instruction: &str, to: &str, x: &str) -> Vec<String> {
    let mut next = || registers.fresh(Class::F32);
    let (share, turns) = (next(), next());
    let mut lines = vec![
        format!("mul.rn.f32 {share}, {x}, {INVERSE_TURN};"),
        format!("cvt.rni.f32.f32 {turns}, {share};"),
    ];
    let mut rest = x.to_owned();
    for part in TURN {
        let less = next();
        lines.push(format!("fma.rn.f32 {less}, {turns}, {part}, {rest};"));
        rest = less;
    }
    lines.push(format!("{instruction} {to}, {rest};"));
    lines
}

/// The lines of a function of two operands of one type.
pub(super) fn binary(
    registers: &mut Registers,
    function: Binary,
    scalar: Scalar,
    to: &str,
    [a, b]: [&str; 2],
) -> Vec<String> {
    let ty = arithmetic(scalar);
    let is_float = scalar == Scalar::F32;
    let one = |instruction: String| vec![format!("{instruction} {to}, {a}, {b};")];
    // Floats round at each step, so that no assembler joins a product and a sum on its own.
    let rounded = |name: &str| match is_float {
        true => one(format!("{name}.rn.{ty}")),
        false => one(format!("{name}.{ty}")),
    };
    let bits = |name: &str| match scalar {
        Scalar::Bool => one(format!("{name}.pred")),
        Scalar::I32 | Scalar::U32 | Scalar::F16 | Scalar::F32 => one(format!("{name}.b32")),
    };
    match function {
        Binary::Add => rounded("add"),
        Binary::Sub => rounded("sub"),
        Binary::Mul if is_float => rounded("mul"),
        Binary::Mul => one(format!("mul.lo.{ty}")),
        Binary::Div => rounded("div"),
        Binary::Rem => one(format!("rem.{ty}")),
        Binary::Min => one(format!("min.{ty}")),
        Binary::Max => one(format!("max.{ty}")),
        // a^b = 2^(b · log2 a).
        Binary::Pow => {
            let (log, scaled) = (registers.fresh(Class::F32), registers.fresh(Class::F32));
            vec![
                format!("lg2.approx.f32 {log}, {a};"),
                format!("mul.rn.f32 {scaled}, {b}, {log};"),
                format!("ex2.approx.f32 {to}, {scaled};"),
            ]
        }
        Binary::And => bits("and"),
        Binary::Or => bits("or"),
        Binary::Xor => bits("xor"),
        Binary::ShiftLeft => one("shl.b32".to_owned()),
        Binary::ShiftRight => one(format!("shr.{ty}")),
        Binary::Less => one(format!("setp.lt.{ty}")),
        Binary::LessEqual => one(format!("setp.le.{ty}")),
        Binary::Equal if scalar == Scalar::Bool => {
            let differ = registers.fresh(Class::Pred);
            vec![
                format!("xor.pred {differ}, {a}, {b};"),
                format!("not.pred {to}, {differ};"),
            ]
        }
        Binary::Equal => one(format!("setp.eq.{ty}")),
    }
}

/// The lines that convert a number of type `from`; as the kernel IR has it, to integers towards 0,
/// and to Bool whether it is not 0.
pub(super) fn convert(
    registers: &mut Registers,
    [from, into]: [Scalar; 2],
    to: &str,
    x: &str,
) -> Vec<String> {
    let one = |instruction: &str| vec![format!("{instruction} {to}, {x};")];
    match (from, into) {
        (Scalar::Bool, Scalar::F32) => vec![format!("selp.f32 {to}, 0f3F800000, 0f00000000, {x};")],
        (Scalar::Bool, Scalar::F16) => vec![format!("selp.b16 {to}, 0x3C00, 0x0000, {x};")],
        (Scalar::Bool, _) => vec![format!("selp.b32 {to}, 1, 0, {x};")],
        (Scalar::I32 | Scalar::U32, Scalar::Bool) => vec![format!("setp.ne.s32 {to}, {x}, 0;")],
        // NaN is not 0.
        (Scalar::F32, Scalar::Bool) => vec![format!("setp.neu.f32 {to}, {x}, 0f00000000;")],
        (Scalar::F16, Scalar::Bool) => {
            let wide = registers.fresh(Class::F32);
            vec![
                format!("cvt.f32.f16 {wide}, {x};"),
                format!("setp.neu.f32 {to}, {wide}, 0f00000000;"),
            ]
        }
        (Scalar::I32 | Scalar::U32, Scalar::I32 | Scalar::U32) => one("mov.b32"),
        (Scalar::I32 | Scalar::U32, Scalar::F32 | Scalar::F16) | (Scalar::F32, Scalar::F16) => {
            one(&format!("cvt.rn.{}.{}", arithmetic(into), arithmetic(from)))
        }
        (Scalar::F16, Scalar::F32) => one("cvt.f32.f16"),
        (Scalar::F32 | Scalar::F16, Scalar::I32 | Scalar::U32) => one(&format!(
            "cvt.rzi.{}.{}",
            arithmetic(into),
            arithmetic(from)
        )),
        (Scalar::F32, Scalar::F32) => one("mov.f32"),
        (Scalar::F16, Scalar::F16) => one("mov.b16"),
    }
}

/// The type of instructions that compute.
fn arithmetic(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "pred",
        Scalar::I32 => "s32",
        Scalar::U32 => "u32",
        Scalar::F16 => "f16",
        Scalar::F32 => "f32",
    }
}
