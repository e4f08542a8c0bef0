//! The words of the text form: the types of lanes and the functions, each with its word.
//!
//! Takes a part of a kernel and returns its word, and back. Each word is written in one place.

/// Declares the variants of an enum, each with its word.
macro_rules! named {
    (
        $(#[$doc:meta])*
        $named:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $named {
            $($(#[$meaning])* $variant),*
        }

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

named! {
    /// The type of a lane.
    Scalar {
        /// A truth value; lies in no memory.
        Bool = "bool",
        /// A signed number of 32 bits, which wraps: indices and the integers of graphs.
        I32 = "i32",
        /// 32 bits: packed numbers.
        U32 = "u32",
        /// IEEE 754 binary16, for what is stored: it is converted before it is computed with.
        F16 = "f16",
        /// IEEE 754 binary32.
        F32 = "f32",
    }
}

named! {
    /// The type of 16 bits in which two numbers are packed to a U32, the first in the lower half.
    Half {
        /// IEEE 754 binary16.
        F16 = "f16",
        /// The upper half of an F32.
        Bf16 = "bf16",
    }
}

named! {
    /// A function of one operand, lane by lane, of the operand's type.
    Unary {
        /// `-x`, of I32 and F32.
        Neg = "neg",
        /// Of Bool.
        Not = "not",
        /// `|x|`, of I32 and F32.
        Abs = "abs",
        /// `e^x`, of F32 as are all that follow.
        Exp = "exp",
        /// The natural logarithm.
        Log = "log",
        /// The square root.
        Sqrt = "sqrt",
        /// `1 / sqrt(x)`.
        InverseSqrt = "inverse_sqrt",
        /// The sine of radians.
        Sin = "sin",
        /// The cosine of radians.
        Cos = "cos",
        /// Towards minus infinity.
        Floor = "floor",
        /// Towards plus infinity.
        Ceil = "ceil",
        /// To the nearest, ties to even.
        Round = "round",
        /// Towards 0.
        Trunc = "trunc",
    }
}

named! {
    /// A function of two operands of one type, lane by lane.
    Binary {
        /// The sum: of numbers, as are all until [`Binary::Max`].
        Add = "add",
        /// The difference.
        Sub = "sub",
        /// The product.
        Mul = "mul",
        /// The quotient, of integers rounded towards 0; of integers the divisor is not 0.
        Div = "div",
        /// What an integer quotient leaves, with the sign of the dividend.
        Rem = "rem",
        /// The smaller one; either where one is NaN.
        Min = "min",
        /// The larger one; either where one is NaN.
        Max = "max",
        /// `a^b` for positive `a`, of F32.
        Pow = "pow",
        /// Both: of Bool, I32 and U32, as is [`Binary::Or`].
        And = "and",
        /// Either.
        Or = "or",
        /// Bits that differ, of I32 and U32.
        Xor = "xor",
        /// Bits moved up, of I32 and U32; by less than 32.
        ShiftLeft = "shift_left",
        /// Bits moved down, of U32 with zeros, of I32 with the sign; by less than 32.
        ShiftRight = "shift_right",
        /// `a < b` as Bool, of numbers.
        Less = "less",
        /// `a <= b` as Bool, of numbers.
        LessEqual = "less_equal",
        /// `a = b` as Bool, of numbers and truth values.
        Equal = "equal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_one_thing() {
        assert_eq!(Unary::from_name("inverse_sqrt"), Some(Unary::InverseSqrt));
        assert_eq!(Binary::from_name("inverse_sqrt"), None);
        assert_eq!(Binary::from_name("less_equal"), Some(Binary::LessEqual));
    }
}
