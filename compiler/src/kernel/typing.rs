//! What type each expression has, and which operands it asks for.
//!
//! Takes an expression and the types of its operands, gives the type of the value (K2). It knows
//! nothing of scopes or statements.

use crate::kernel::{Binary, Expression, Kernel, Memory, Scalar, Type, Unary, Value};

/// An operand that an expression does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// What was found.
    pub(super) found: String,
    /// What was wanted.
    pub(super) wanted: &'static str,
}

fn misfit<T>(found: impl ToString, wanted: &'static str) -> Result<T, Misfit> {
    let found = found.to_string();
    Err(Misfit { found, wanted })
}

fn is_integer(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::I32 | Scalar::U32)
}

/// Whether a lane is 32 bits that arithmetic takes.
fn is_number(scalar: Scalar) -> bool {
    is_integer(scalar) || scalar == Scalar::F32
}

/// Lanes that a value may have.
pub(super) fn are_lanes(lanes: usize) -> bool {
    matches!(lanes, 1 | 2 | 4)
}

/// The memory's element, if the kernel has the memory.
pub(super) fn element(kernel: &Kernel, memory: Memory) -> Option<Type> {
    match memory {
        Memory::Buffer(id) => kernel.buffers.get(id.0 as usize).map(|data| data.element),
        Memory::Shared(id) => kernel.shared.get(id.0 as usize).map(|data| data.element),
    }
}

/// The type of an expression whose operands are values of the kernel.
pub(super) fn infer(kernel: &Kernel, expression: &Expression) -> Result<Type, Misfit> {
    let of = |value: Value| kernel.type_of(value);
    let wants = |value: Value, ty: Type, wanted: &'static str| match of(value) == ty {
        true => Ok(()),
        false => misfit(of(value), wanted),
    };
    match expression {
        Expression::Constant(constant) => Ok(Type::one(constant.scalar())),
        Expression::Builtin(crate::kernel::Builtin::Group(axis @ 3..)) => {
            misfit(axis, "an axis of the grid")
        }
        Expression::Builtin(_) => Ok(Type::one(Scalar::I32)),
        Expression::Unary(function, x) => unary(*function, of(*x)),
        Expression::Binary(function, a, b) => binary(*function, of(*a), of(*b)),
        Expression::Fma(a, b, c) => {
            let ty = Type::lanes(Scalar::F32, of(*a).lanes);
            for value in [*a, *b, *c] {
                wants(value, ty, "three f32 of the same lanes")?;
            }
            Ok(ty)
        }
        Expression::Select(condition, yes, no) => {
            wants(*condition, Type::one(Scalar::Bool), "a bool of one lane")?;
            wants(*no, of(*yes), "two values of one type")?;
            Ok(of(*yes))
        }
        Expression::Convert(scalar, x) if of(*x).scalar == *scalar => {
            misfit(of(*x), "a value of another type")
        }
        Expression::Convert(scalar, x) => Ok(Type::lanes(*scalar, of(*x).lanes)),
        Expression::Bits(scalar, x) => match is_number(*scalar) && is_number(of(*x).scalar) {
            true => Ok(Type::lanes(*scalar, of(*x).lanes)),
            false => misfit(of(*x), "types of 32 bits"),
        },
        Expression::Splat(x, lanes) => match (of(*x).lanes, lanes) {
            (1, 2 | 4) => Ok(Type::lanes(of(*x).scalar, *lanes)),
            (_, _) => misfit(of(*x), "one lane for two or four"),
        },
        Expression::Extract(x, lane) => match of(*x).lanes {
            lanes if lanes > 1 && *lane < lanes => Ok(Type::one(of(*x).scalar)),
            _ => misfit(format!("lane {lane} of {}", of(*x)), "one of many lanes"),
        },
        Expression::ExtractAt(x, lane) => {
            wants(*lane, Type::one(Scalar::I32), "a lane as i32")?;
            match of(*x).lanes {
                1 => misfit(of(*x), "one of many lanes"),
                _ => Ok(Type::one(of(*x).scalar)),
            }
        }
        Expression::Compose(lanes) => compose(kernel, lanes),
        Expression::Unpack(x) => {
            wants(*x, Type::one(Scalar::U32), "a u32")?;
            Ok(Type::lanes(Scalar::F32, 2))
        }
        Expression::Pack(x) => {
            wants(*x, Type::lanes(Scalar::F32, 2), "an f32x2")?;
            Ok(Type::one(Scalar::U32))
        }
        Expression::Mma(_, a, b, c) => {
            let (left, right) = match of(*a).lanes {
                2 => (Type::lanes(Scalar::U32, 2), Type::one(Scalar::U32)),
                _ => (Type::lanes(Scalar::U32, 4), Type::lanes(Scalar::U32, 2)),
            };
            wants(*a, left, "four u32 of the left factor, or two")?;
            wants(*b, right, "half as many u32 of the right factor")?;
            let sums = Type::lanes(Scalar::F32, 4);
            wants(*c, sums, "four f32 of the sums")?;
            Ok(sums)
        }
        Expression::Shuffle(x, bits) => match (of(*x).scalar, bits) {
            (Scalar::I32 | Scalar::U32 | Scalar::F32, 1..32) => Ok(of(*x)),
            (Scalar::Bool | Scalar::F16, _) => misfit(of(*x), "numbers of 32 bits"),
            (_, _) => misfit(bits, "bits of a number below 32"),
        },
        Expression::LoadMatrix(load) => {
            wants(load.row, Type::one(Scalar::I32), "an index as i32")?;
            match (kernel.shared.get(load.shared.0 as usize), load.count) {
                (None, _) => misfit(load.shared, "a memory of the kernel"),
                (Some(_), count @ (1 | 2 | 4)) => Ok(Type::lanes(Scalar::U32, count)),
                (Some(_), count) => misfit(count, "one, two or four matrices"),
            }
        }
        Expression::Load(memory, index) => {
            wants(*index, Type::one(Scalar::I32), "an index as i32")?;
            match element(kernel, *memory) {
                Some(element) => Ok(element),
                None => misfit(memory, "a memory of the kernel"),
            }
        }
    }
}

fn unary(function: Unary, ty: Type) -> Result<Type, Misfit> {
    let (fits, wanted) = match function {
        Unary::Not => (ty.scalar == Scalar::Bool, "a bool"),
        Unary::Neg | Unary::Abs => {
            let fits = matches!(ty.scalar, Scalar::I32 | Scalar::F32);
            (fits, "an i32 or f32")
        }
        Unary::Exp
        | Unary::Log
        | Unary::Sqrt
        | Unary::InverseSqrt
        | Unary::Sin
        | Unary::Cos
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Trunc => (ty.scalar == Scalar::F32, "an f32"),
    };
    match fits {
        true => Ok(ty),
        false => misfit(ty, wanted),
    }
}

fn binary(function: Binary, a: Type, b: Type) -> Result<Type, Misfit> {
    if a != b {
        return misfit(format!("{a} and {b}"), "two operands of one type");
    }
    let is_bool = a.scalar == Scalar::Bool;
    let (integer, number) = (is_integer(a.scalar), is_number(a.scalar));
    let (fits, wanted) = match function {
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Min
        | Binary::Max
        | Binary::Less
        | Binary::LessEqual => (number, "numbers of 32 bits"),
        Binary::Rem | Binary::Xor | Binary::ShiftLeft | Binary::ShiftRight => (integer, "integers"),
        Binary::Pow => (a.scalar == Scalar::F32, "f32"),
        Binary::And | Binary::Or => (integer || is_bool, "integers or bools"),
        Binary::Equal => (number || is_bool, "numbers of 32 bits or bools"),
    };
    let scalar = match function.compares() {
        true => Scalar::Bool,
        false => a.scalar,
    };
    match fits {
        true => Ok(Type::lanes(scalar, a.lanes)),
        false => misfit(a, wanted),
    }
}

fn compose(kernel: &Kernel, lanes: &[Value]) -> Result<Type, Misfit> {
    let (Some(first), 2 | 4) = (lanes.first(), lanes.len()) else {
        return misfit(format!("{} lanes", lanes.len()), "two or four lanes");
    };
    let ty = kernel.type_of(*first);
    let fits = |value: &Value| kernel.type_of(*value) == ty && ty.lanes == 1;
    match lanes.iter().find(|value| !fits(value)) {
        Some(value) => misfit(kernel.type_of(*value), "lanes of one type"),
        None => Ok(Type::lanes(ty.scalar, lanes.len() as u8)),
    }
}
