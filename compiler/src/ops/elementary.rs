//! What pointwise operators of floats are to a machine: the one table of elementary functions.
//!
//! Takes nothing; each function has a name, what it costs, and its exact meaning, which is the
//! oracle. An operator names its function in its file, and backends match these names instead of
//! operators. Nothing here knows types, shapes or machines.

use half::{bf16, f16};

/// What a machine computes for a pointwise operator whose operands and result are floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointwise {
    /// A function of one number.
    Unary(Elementary),
    /// A function of two numbers.
    Binary(Arithmetic),
}

/// Declares functions of f64: name, floating-point operations, meaning.
macro_rules! functions {
    (
        $(#[$doc:meta])*
        $table:ident: $function:ty {
            $($(#[$meaning:meta])* $name:ident, $flops:literal, $value:expr;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $table {
            $($(#[$meaning])* $name),*
        }

        impl $table {
            /// The function itself, in f64.
            pub fn exact(self) -> $function {
                match self {
                    $($table::$name => $value),*
                }
            }

            /// Floating-point operations of one application.
            pub fn flops(self) -> i64 {
                match self {
                    $($table::$name => $flops),*
                }
            }
        }
    };
}

functions! {
    /// A function of one number.
    Elementary: fn(f64) -> f64 {
        /// `|x|`.
        Abs, 1, f64::abs;
        /// The smallest integer that is not below `x`.
        Ceil, 1, f64::ceil;
        /// The cosine of radians.
        Cos, 1, f64::cos;
        /// `2/√π · ∫₀ˣ e^(−t²) dt`.
        Erf, 1, libm::erf;
        /// `e^x`.
        Exp, 1, f64::exp;
        /// The largest integer that is not above `x`.
        Floor, 1, f64::floor;
        /// `x / 2 · (1 + erf(x / √2))`.
        GeluErf, 5, gelu_erf;
        /// `x · σ(1.702 · x)`.
        GeluQuick, 5, |x| x / (1.0 + (-QUICK_STEEPNESS * x).exp());
        /// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
        GeluTanh, 9, gelu_tanh;
        /// The natural logarithm.
        Log, 1, f64::ln;
        /// The nearest number of bf16.
        NearestBf16, 1, |x| bf16::from_f64(x).to_f64();
        /// The nearest number of f16.
        NearestF16, 1, |x| f16::from_f64(x).to_f64();
        /// The nearest number of f32.
        NearestF32, 1, |x| f64::from(x as f32);
        /// `-x`.
        Neg, 1, |x| -x;
        /// The nearest integer, the even one of two.
        Round, 1, f64::round_ties_even;
        /// `1 / (1 + e^−x)`.
        Sigmoid, 3, |x| 1.0 / (1.0 + (-x).exp());
        /// `x · σ(x)`.
        Silu, 4, |x| x / (1.0 + (-x).exp());
        /// The sine of radians.
        Sin, 1, f64::sin;
        /// The square root.
        Sqrt, 1, f64::sqrt;
        /// The hyperbolic tangent.
        Tanh, 1, f64::tanh;
    }
}

functions! {
    /// A function of two numbers.
    Arithmetic: fn(f64, f64) -> f64 {
        /// `a + b`.
        Add, 1, |a, b| a + b;
        /// `a / b`.
        Div, 1, |a, b| a / b;
        /// The larger one, NaN if one is.
        Max, 1, |a, b| if a > b || a.is_nan() { a } else { b };
        /// The smaller one, NaN if one is.
        Min, 1, |a, b| if a < b || a.is_nan() { a } else { b };
        /// `a · b`.
        Mul, 1, |a, b| a * b;
        /// `a^b`.
        Pow, 1, f64::powf;
        /// `a - b`.
        Sub, 1, |a, b| a - b;
    }
}

/// The coefficient of the cube in the `tanh` form of GELU.
pub(crate) const TANH_CUBE: f64 = 0.044715;

/// The steepness of the `quick` form of GELU.
pub(crate) const QUICK_STEEPNESS: f64 = 1.702;

/// `1 + erf(y)` is `erfc(−y)`, which keeps its digits where `erf` is near −1.
fn gelu_erf(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn gelu_tanh(x: f64) -> f64 {
    let slope = (2.0 / std::f64::consts::PI).sqrt();
    0.5 * x * (1.0 + (slope * (x + TANH_CUBE * x * x * x)).tanh())
}
