//! Instructions that compute: each as the PTX ISA defines it, on words of registers.
//!
//! Takes the name of an instruction, gives its function. Approximations are exact here.

use half::{bf16, f16};

/// What an instruction makes of its operands.
pub(crate) type Function = fn(&[u64; 3]) -> u64;

/// A type of 16 bits, two in a word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    /// The lower or the upper number of a word.
    pub(crate) fn read(self, word: u64, upper: usize) -> f64 {
        let bits = (word >> (16 * upper)) as u16;
        match self {
            Half::F16 => f16::from_bits(bits).to_f64(),
            Half::Bf16 => bf16::from_bits(bits).to_f64(),
        }
    }
}

fn float(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn signed(bits: u64) -> i32 {
    (bits as u32).cast_signed()
}

fn of_float(value: f32) -> u64 {
    value.to_bits().into()
}

fn of_signed(value: i32) -> u64 {
    value.cast_unsigned().into()
}

/// The function of an instruction; `None` for one that is not known.
pub(crate) fn function(name: &[&str]) -> Option<Function> {
    let (ty, modifier) = (*name.last()?, *name.get(1)?);
    let function: Function = match (name[0], ty) {
        ("mov" | "cvta", _) => |x| x[0],
        ("add", "f32") => |x| of_float(float(x[0]) + float(x[1])),
        ("sub", "f32") => |x| of_float(float(x[0]) - float(x[1])),
        ("mul", "f32") => |x| of_float(float(x[0]) * float(x[1])),
        ("div", "f32") => |x| of_float(float(x[0]) / float(x[1])),
        ("fma", "f32") => |x| of_float(float(x[0]).mul_add(float(x[1]), float(x[2]))),
        ("min", "f32") => |x| of_float(float(x[0]).min(float(x[1]))),
        ("max", "f32") => |x| of_float(float(x[0]).max(float(x[1]))),
        ("neg", "f32") => |x| of_float(-float(x[0])),
        ("abs", "f32") => |x| of_float(float(x[0]).abs()),
        ("sqrt", "f32") => |x| of_float(float(x[0]).sqrt()),
        ("rsqrt", "f32") => |x| of_float(1.0 / float(x[0]).sqrt()),
        ("ex2", "f32") => |x| of_float(float(x[0]).exp2()),
        ("lg2", "f32") => |x| of_float(float(x[0]).log2()),
        ("sin", "f32") => |x| of_float(float(x[0]).sin()),
        ("cos", "f32") => |x| of_float(float(x[0]).cos()),
        ("add", "s32" | "u32") => |x| of_signed(signed(x[0]).wrapping_add(signed(x[1]))),
        ("sub", "s32" | "u32") => |x| of_signed(signed(x[0]).wrapping_sub(signed(x[1]))),
        ("mul", "s32" | "u32") if modifier == "lo" => {
            |x| of_signed(signed(x[0]).wrapping_mul(signed(x[1])))
        }
        ("mad", "s32") if modifier == "lo" => |x| {
            of_signed(
                signed(x[0])
                    .wrapping_mul(signed(x[1]))
                    .wrapping_add(signed(x[2])),
            )
        },
        ("mad", "s32") if modifier == "wide" => |x| {
            let product = i64::from(signed(x[0])) * i64::from(signed(x[1]));
            x[2].wrapping_add(product.cast_unsigned())
        },
        ("div", "s32") => |x| of_signed(signed(x[0]).wrapping_div(signed(x[1]))),
        ("rem", "s32") => |x| of_signed(signed(x[0]).wrapping_rem(signed(x[1]))),
        ("div", "u32") => |x| u64::from(x[0] as u32 / x[1] as u32),
        ("rem", "u32") => |x| u64::from(x[0] as u32 % x[1] as u32),
        ("min", "s32") => |x| of_signed(signed(x[0]).min(signed(x[1]))),
        ("max", "s32") => |x| of_signed(signed(x[0]).max(signed(x[1]))),
        ("min", "u32") => |x| u64::from((x[0] as u32).min(x[1] as u32)),
        ("max", "u32") => |x| u64::from((x[0] as u32).max(x[1] as u32)),
        ("neg", "s32") => |x| of_signed(signed(x[0]).wrapping_neg()),
        ("abs", "s32") => |x| of_signed(signed(x[0]).wrapping_abs()),
        ("and", "b32" | "pred") => |x| x[0] & x[1],
        ("or", "b32" | "pred") => |x| x[0] | x[1],
        ("xor", "b32" | "pred") => |x| x[0] ^ x[1],
        ("not", "pred") => |x| 1 - x[0],
        ("shl", "b32") => |x| u64::from((x[0] as u32) << x[1]),
        ("shr", "u32") => |x| u64::from(x[0] as u32 >> x[1]),
        ("shr", "s32") => |x| of_signed(signed(x[0]) >> x[1]),
        ("selp", _) => |x| if x[2] == 0 { x[1] } else { x[0] },
        ("setp", ty) => return comparison(modifier, ty),
        ("cvt", from) => return conversion(&name[1..], from),
        _ => return None,
    };
    Some(function)
}

fn comparison(name: &str, ty: &str) -> Option<Function> {
    let function: Function = match (name, ty) {
        ("lt", "f32") => |x| (float(x[0]) < float(x[1])).into(),
        ("le", "f32") => |x| (float(x[0]) <= float(x[1])).into(),
        ("eq", "f32") => |x| (float(x[0]) == float(x[1])).into(),
        // Also where one is not a number.
        ("neu", "f32") => |x| (float(x[0]) != float(x[1])).into(),
        ("lt", "s32") => |x| (signed(x[0]) < signed(x[1])).into(),
        ("le", "s32") => |x| (signed(x[0]) <= signed(x[1])).into(),
        ("ge", "s32") => |x| (signed(x[0]) >= signed(x[1])).into(),
        ("lt", "u32") => |x| ((x[0] as u32) < x[1] as u32).into(),
        ("le", "u32") => |x| (x[0] as u32 <= x[1] as u32).into(),
        ("eq", "s32" | "u32") => |x| (x[0] as u32 == x[1] as u32).into(),
        ("ne", "s32" | "u32") => |x| (x[0] as u32 != x[1] as u32).into(),
        _ => return None,
    };
    Some(function)
}

fn half(value: f32) -> u64 {
    f16::from_f32(value).to_bits().into()
}

fn wide(bits: u64) -> f32 {
    f16::from_bits(bits as u16).to_f32()
}

/// A conversion by its modifiers; the type of the result stands before that of the operand.
fn conversion(name: &[&str], from: &str) -> Option<Function> {
    let into = *name.get(name.len().checked_sub(2)?)?;
    let function: Function = match (name[0], into, from) {
        ("rmi", "f32", "f32") => |x| of_float(float(x[0]).floor()),
        ("rpi", "f32", "f32") => |x| of_float(float(x[0]).ceil()),
        ("rni", "f32", "f32") => |x| of_float(float(x[0]).round_ties_even()),
        ("rzi", "f32", "f32") => |x| of_float(float(x[0]).trunc()),
        // The first operand becomes the upper half.
        ("rn", "f16x2", "f32") => |x| half(float(x[0])) << 16 | half(float(x[1])),
        ("rn", "f16", "f32") => |x| half(float(x[0])),
        ("rn", "f16", "s32") => |x| half(signed(x[0]) as f32),
        ("rn", "f16", "u32") => |x| half(x[0] as u32 as f32),
        ("rn", "f32", "s32") => |x| of_float(signed(x[0]) as f32),
        ("rn", "f32", "u32") => |x| of_float(x[0] as u32 as f32),
        ("f32", "f32", "f16") => |x| of_float(wide(x[0])),
        ("rzi", "s32", "f32") => |x| of_signed(float(x[0]) as i32),
        ("rzi", "u32", "f32") => |x| u64::from(float(x[0]) as u32),
        ("rzi", "s32", "f16") => |x| of_signed(wide(x[0]) as i32),
        ("rzi", "u32", "f16") => |x| u64::from(wide(x[0]) as u32),
        _ => return None,
    };
    Some(function)
}
