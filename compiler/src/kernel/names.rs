//! The words of the text form: of types, of functions, of places.
//!
//! Takes a part of a kernel and gives its word, and back. Each word stands in one place.

use crate::kernel::{Binary, Builtin, Scalar, Type, Unary};

const SCALARS: [Scalar; 5] = [
    Scalar::Bool,
    Scalar::I32,
    Scalar::U32,
    Scalar::F16,
    Scalar::F32,
];

const UNARIES: [Unary; 12] = [
    Unary::Neg,
    Unary::Not,
    Unary::Abs,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::InverseSqrt,
    Unary::Sin,
    Unary::Cos,
    Unary::Floor,
    Unary::Ceil,
    Unary::Trunc,
];

const BINARIES: [Binary; 16] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Rem,
    Binary::Min,
    Binary::Max,
    Binary::Pow,
    Binary::And,
    Binary::Or,
    Binary::Xor,
    Binary::ShiftLeft,
    Binary::ShiftRight,
    Binary::Less,
    Binary::LessEqual,
    Binary::Equal,
];

impl Scalar {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Scalar::Bool => "bool",
            Scalar::I32 => "i32",
            Scalar::U32 => "u32",
            Scalar::F16 => "f16",
            Scalar::F32 => "f32",
        }
    }
}

impl Type {
    /// The type of that word: `f32`, `f32x4`.
    pub(super) fn from_name(name: &str) -> Option<Type> {
        let (scalar, lanes) = match name.strip_suffix("x2") {
            Some(scalar) => (scalar, 2),
            None => name
                .strip_suffix("x4")
                .map_or((name, 1), |scalar| (scalar, 4)),
        };
        let scalar = SCALARS.into_iter().find(|known| known.name() == scalar)?;
        Some(Type::lanes(scalar, lanes))
    }
}

impl Unary {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Not => "not",
            Unary::Abs => "abs",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::InverseSqrt => "inverse_sqrt",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Trunc => "trunc",
        }
    }

    /// The function of that word.
    pub(super) fn from_name(name: &str) -> Option<Unary> {
        UNARIES.into_iter().find(|known| known.name() == name)
    }
}

impl Binary {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Rem => "rem",
            Binary::Min => "min",
            Binary::Max => "max",
            Binary::Pow => "pow",
            Binary::And => "and",
            Binary::Or => "or",
            Binary::Xor => "xor",
            Binary::ShiftLeft => "shift_left",
            Binary::ShiftRight => "shift_right",
            Binary::Less => "less",
            Binary::LessEqual => "less_equal",
            Binary::Equal => "equal",
        }
    }

    /// The function of that word.
    pub(super) fn from_name(name: &str) -> Option<Binary> {
        BINARIES.into_iter().find(|known| known.name() == name)
    }
}

impl Builtin {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Local => "local",
            Builtin::Group(_) => "group",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_one_thing() {
        for scalar in SCALARS {
            for lanes in [1, 2, 4] {
                let ty = Type::lanes(scalar, lanes);
                assert_eq!(Type::from_name(&ty.to_string()), Some(ty));
            }
        }
        for word in ["f64", "f32x3", "f32x1", "x4", "", "f32x2x2"] {
            assert_eq!(Type::from_name(word), None, "{word}");
        }
        for function in UNARIES {
            assert_eq!(Unary::from_name(function.name()), Some(function));
            assert_eq!(Binary::from_name(function.name()), None);
        }
        for function in BINARIES {
            assert_eq!(Binary::from_name(function.name()), Some(function));
        }
    }
}
