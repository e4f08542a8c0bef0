//! The words of the text form: of types, of functions, of places.
//!
//! Takes a part of a kernel and gives its word, and back. Each word stands in one place.

use crate::kernel::{Binary, Builtin, Scalar, Type, Unary};

/// Gives each variant its word.
macro_rules! words {
    ($named:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $named {
            /// The word for it.
            pub fn name(self) -> &'static str {
                match self {
                    $($named::$variant => $word),*
                }
            }

            /// What the word stands for.
            pub(super) fn from_name(name: &str) -> Option<$named> {
                [$($named::$variant),*].into_iter().find(|known| known.name() == name)
            }
        }
    };
}

words!(Scalar {
    Bool = "bool",
    I32 = "i32",
    U32 = "u32",
    F16 = "f16",
    F32 = "f32",
});

words!(Unary {
    Neg = "neg",
    Not = "not",
    Abs = "abs",
    Exp = "exp",
    Log = "log",
    Sqrt = "sqrt",
    InverseSqrt = "inverse_sqrt",
    Sin = "sin",
    Cos = "cos",
    Floor = "floor",
    Ceil = "ceil",
    Round = "round",
    Trunc = "trunc",
});

words!(Binary {
    Add = "add",
    Sub = "sub",
    Mul = "mul",
    Div = "div",
    Rem = "rem",
    Min = "min",
    Max = "max",
    Pow = "pow",
    And = "and",
    Or = "or",
    Xor = "xor",
    ShiftLeft = "shift_left",
    ShiftRight = "shift_right",
    Less = "less",
    LessEqual = "less_equal",
    Equal = "equal",
});

impl Type {
    /// The type of that word: `f32`, `f32x4`.
    pub(super) fn from_name(name: &str) -> Option<Type> {
        let (scalar, lanes) = match name.strip_suffix("x2") {
            Some(scalar) => (scalar, 2),
            None => name
                .strip_suffix("x4")
                .map_or((name, 1), |scalar| (scalar, 4)),
        };
        let scalar = Scalar::from_name(scalar)?;
        Some(Type::lanes(scalar, lanes))
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
        for scalar in ["bool", "i32", "u32", "f16", "f32"] {
            for lanes in ["", "x2", "x4"] {
                let word = format!("{scalar}{lanes}");
                let ty = Type::from_name(&word).expect("a type");
                assert_eq!(ty.to_string(), word);
            }
        }
        for word in ["f64", "f32x3", "f32x1", "x4", "", "f32x2x2"] {
            assert_eq!(Type::from_name(word), None, "{word}");
        }
        assert_eq!(Unary::from_name("inverse_sqrt"), Some(Unary::InverseSqrt));
        assert_eq!(Binary::from_name("inverse_sqrt"), None);
        assert_eq!(Binary::from_name("less_equal"), Some(Binary::LessEqual));
    }
}
