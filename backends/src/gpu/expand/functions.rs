//! Pointwise functions of floats: the one table from names to expressions of a kernel.
//!
//! Takes an operator and its operands as F32 lanes, gives the result. Formulas avoid what WGSL
//! leaves to the implementation: overflow to infinity inside of a quotient, powers of negative
//! numbers.

use compiler::kernel::{Binary, Builder, Constant, Half, Scalar, Unary, Value};
use compiler::ops::elementary::{Arithmetic, Elementary};
use compiler::ops::{Op, Pointwise};
use compiler::value::tensor::Values;

/// The largest exponent that is taken: `e^88` is still finite.
const EXPONENT_MAX: f32 = 88.0;

/// The result of an operator that [`Op::pointwise`] has a function for.
///
/// # Panics
/// For another operator: block programs have none.
pub(crate) fn apply(b: &mut Builder, op: &Op, operands: &[Value]) -> Value {
    let lanes = b.type_of(operands[0]).lanes;
    let mut e = Lanes { b, lanes };
    match op.pointwise() {
        Some(Pointwise::Unary(function)) => e.elementary(function, operands[0]),
        Some(Pointwise::Binary(function)) => e.arithmetic(function, operands[0], operands[1]),
        None => unreachable!("{} is not a pointwise function of floats", op.name()),
    }
}

/// Numbers in so many lanes.
struct Lanes<'a> {
    b: &'a mut Builder,
    lanes: u8,
}

impl Lanes<'_> {
    fn elementary(&mut self, function: Elementary, x: Value) -> Value {
        match function {
            Elementary::Abs => self.unary(Unary::Abs, x),
            Elementary::Ceil => self.unary(Unary::Ceil, x),
            Elementary::Cos => self.unary(Unary::Cos, x),
            Elementary::Erf => self.erf(x),
            Elementary::Exp => self.unary(Unary::Exp, x),
            Elementary::Floor => self.unary(Unary::Floor, x),
            Elementary::GeluErf => self.gelu_erf(x),
            Elementary::GeluQuick => {
                let scaled = self.times(x, 1.702);
                let gate = self.sigmoid(scaled);
                self.binary(Binary::Mul, x, gate)
            }
            Elementary::GeluTanh => self.gelu_tanh(x),
            Elementary::Log => self.unary(Unary::Log, x),
            Elementary::NearestBf16 => round_bf16(self.b, x),
            Elementary::NearestF16 => self.round_f16(x),
            Elementary::NearestF32 => x,
            Elementary::Neg => self.unary(Unary::Neg, x),
            Elementary::Round => self.unary(Unary::Round, x),
            Elementary::Sigmoid => self.sigmoid(x),
            Elementary::Silu => {
                let gate = self.sigmoid(x);
                self.binary(Binary::Mul, x, gate)
            }
            Elementary::Sin => self.unary(Unary::Sin, x),
            Elementary::Sqrt => self.unary(Unary::Sqrt, x),
            Elementary::Tanh => {
                // tanh(x) = 2σ(2x) − 1.
                let twice = self.times(x, 2.0);
                let gate = self.sigmoid(twice);
                let gate = self.times(gate, 2.0);
                self.plus(gate, -1.0)
            }
        }
    }

    fn arithmetic(&mut self, function: Arithmetic, a: Value, c: Value) -> Value {
        match function {
            Arithmetic::Add => self.binary(Binary::Add, a, c),
            Arithmetic::Div => self.binary(Binary::Div, a, c),
            Arithmetic::Max => self.binary(Binary::Max, a, c),
            Arithmetic::Min => self.binary(Binary::Min, a, c),
            Arithmetic::Mul => self.binary(Binary::Mul, a, c),
            Arithmetic::Pow => self.pow(a, c),
            Arithmetic::Sub => self.binary(Binary::Sub, a, c),
        }
    }

    fn number(&mut self, number: f32) -> Value {
        let number = self.b.f32(number);
        self.b.splat(number, self.lanes)
    }

    fn unary(&mut self, function: Unary, x: Value) -> Value {
        self.b.unary(function, x)
    }

    fn binary(&mut self, function: Binary, a: Value, c: Value) -> Value {
        self.b.binary(function, a, c)
    }

    fn times(&mut self, x: Value, number: f32) -> Value {
        let number = self.number(number);
        self.binary(Binary::Mul, x, number)
    }

    fn plus(&mut self, x: Value, number: f32) -> Value {
        let number = self.number(number);
        self.binary(Binary::Add, x, number)
    }

    /// One of two, lane by lane.
    fn choose(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        let lanes = (0..self.lanes).map(|lane| {
            let [condition, yes, no] =
                [condition, yes, no].map(|value| self.b.extract(value, lane));
            self.b.select(condition, yes, no)
        });
        let lanes: Vec<Value> = lanes.collect();
        self.b.compose(&lanes)
    }

    fn round_f16(&mut self, x: Value) -> Value {
        let lanes: Vec<Value> = (0..self.lanes)
            .step_by(2)
            .flat_map(|lane| {
                let low = self.b.extract(x, lane);
                let high = self.b.extract(x, (lane + 1).min(self.lanes - 1));
                let pair = self.b.compose(&[low, high]);
                let word = self.b.pack(pair);
                let pair = self.b.unpack(word);
                [self.b.extract(pair, 0), self.b.extract(pair, 1)]
            })
            .collect();
        self.b.compose(&lanes[..usize::from(self.lanes)])
    }

    /// `1 / (1 + e^−x)`, of an exponential that stays finite.
    fn sigmoid(&mut self, x: Value) -> Value {
        let negative = self.unary(Unary::Neg, x);
        let most = self.number(EXPONENT_MAX);
        let exponent = self.binary(Binary::Min, negative, most);
        let power = self.unary(Unary::Exp, exponent);
        let sum = self.plus(power, 1.0);
        let one = self.number(1.0);
        self.binary(Binary::Div, one, sum)
    }

    /// `1 − erf(z)` for `z` of 0 and above, to 1.5e-7: Abramowitz and Stegun, formula 7.1.26.
    fn erf_tail(&mut self, z: Value) -> Value {
        let scaled = self.times(z, 0.327_591_1);
        let sum = self.plus(scaled, 1.0);
        let one = self.number(1.0);
        let t = self.binary(Binary::Div, one, sum);
        let mut p = self.number(1.061_405_4);
        for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = self.binary(Binary::Mul, p, t);
            p = self.plus(p, coefficient);
        }
        p = self.binary(Binary::Mul, p, t);
        let square = self.binary(Binary::Mul, z, z);
        let negative = self.unary(Unary::Neg, square);
        let power = self.unary(Unary::Exp, negative);
        self.binary(Binary::Mul, p, power)
    }

    fn is_negative(&mut self, x: Value) -> Value {
        let zero = self.number(0.0);
        self.binary(Binary::Less, x, zero)
    }

    /// `2/√π · ∫₀ˣ e^(−t²) dt`.
    fn erf(&mut self, x: Value) -> Value {
        let size = self.unary(Unary::Abs, x);
        let tail = self.erf_tail(size);
        let square = self.binary(Binary::Mul, x, x);
        // Near 0 the difference would cancel: erf(x) = 2/√π · (x − x³/3 + x⁵/10).
        let tenth = self.times(square, 0.1);
        let inner = self.plus(tenth, -1.0 / 3.0);
        let inner = self.binary(Binary::Mul, inner, square);
        let inner = self.plus(inner, 1.0);
        let near = self.times(x, std::f32::consts::FRAC_2_SQRT_PI);
        let near = self.binary(Binary::Mul, near, inner);
        let negative = self.is_negative(x);
        let below = self.plus(tail, -1.0);
        let above = self.unary(Unary::Neg, below);
        let far = self.choose(negative, below, above);
        let limit = self.number(0.01);
        let small = self.binary(Binary::Less, square, limit);
        self.choose(small, near, far)
    }

    /// `x / 2 · (1 + erf(x / √2))`.
    fn gelu_erf(&mut self, x: Value) -> Value {
        let size = self.unary(Unary::Abs, x);
        let z = self.times(size, std::f32::consts::FRAC_1_SQRT_2);
        let tail = self.erf_tail(z);
        // erf is odd: 1 + erf(z) = 2 − tail, 1 + erf(−z) = tail.
        let negative = self.is_negative(x);
        let two = self.number(2.0);
        let other = self.binary(Binary::Sub, two, tail);
        let factor = self.choose(negative, tail, other);
        let half = self.times(x, 0.5);
        self.binary(Binary::Mul, half, factor)
    }

    /// `x · σ(2y)` with `y = √(2/π) · (x + 0.044715 · x³)`, which is `x / 2 · (1 + tanh(y))`.
    fn gelu_tanh(&mut self, x: Value) -> Value {
        let square = self.binary(Binary::Mul, x, x);
        let inner = self.times(square, 0.044_715);
        let inner = self.plus(inner, 1.0);
        let inner = self.binary(Binary::Mul, inner, x);
        let twice = self.times(inner, 1.595_769);
        let gate = self.sigmoid(twice);
        self.binary(Binary::Mul, x, gate)
    }

    /// `a^b`; of a negative base only where the exponent is whole, as it must be.
    fn pow(&mut self, a: Value, c: Value) -> Value {
        let size = self.unary(Unary::Abs, a);
        let power = self.binary(Binary::Pow, size, c);
        // An odd exponent keeps the sign: c − 2 · floor(c / 2) is 1.
        let half = self.times(c, 0.5);
        let floor = self.unary(Unary::Floor, half);
        let even = self.times(floor, 2.0);
        let odd = self.binary(Binary::Sub, c, even);
        let one = self.number(1.0);
        let odd = self.binary(Binary::Equal, odd, one);
        let negative = self.is_negative(a);
        let both = self.binary(Binary::And, odd, negative);
        let minus = self.unary(Unary::Neg, power);
        let power = self.choose(both, minus, power);
        // 0^0 and x^0 are 1.
        let zero = self.number(0.0);
        let none = self.binary(Binary::Equal, c, zero);
        self.choose(none, one, power)
    }
}

/// The lanes of a value, put together.
pub(crate) fn across(b: &mut Builder, function: Binary, x: Value) -> Value {
    let [first, second, third, last] = [0, 1, 2, 3].map(|lane| b.extract(x, lane));
    let low = b.binary(function, first, second);
    let high = b.binary(function, third, last);
    b.binary(function, low, high)
}

/// A number that is known, in so many lanes.
pub(crate) fn number(b: &mut Builder, number: f32, lanes: u8) -> Value {
    let number = b.constant(Constant::F32(number));
    debug_assert_eq!(b.type_of(number).scalar, Scalar::F32);
    b.splat(number, lanes)
}

/// The first number of a tensor.
pub(crate) fn first(tensor: &compiler::value::tensor::Tensor) -> f32 {
    match tensor.values() {
        Values::Bool(values) => f32::from(u8::from(values[0])),
        Values::Int(values) => values[0] as f32,
        Values::Float(values) => values[0] as f32,
    }
}

/// Two numbers in a word, the first in the lower half.
pub(crate) fn packed(b: &mut Builder, half: Half, [low, high]: [Value; 2]) -> Value {
    match half {
        Half::F16 => {
            let pair = b.compose(&[low, high]);
            b.pack(pair)
        }
        Half::Bf16 => {
            let [low, high] = [low, high].map(|number| {
                let rounded = round_bf16(b, number);
                b.bits(Scalar::U32, rounded)
            });
            let sixteen = b.constant(Constant::U32(16));
            let low = b.binary(Binary::ShiftRight, low, sixteen);
            b.binary(Binary::Or, low, high)
        }
    }
}

/// The nearest numbers whose lower halves are 0, ties to even; NaN stays NaN.
pub(crate) fn round_bf16(b: &mut Builder, x: Value) -> Value {
    let lanes = b.type_of(x).lanes;
    let number = |b: &mut Builder, number: u32| {
        let number = b.constant(Constant::U32(number));
        b.splat(number, lanes)
    };
    let bits = b.bits(Scalar::U32, x);
    let (sixteen, one) = (number(b, 16), number(b, 1));
    let upper = b.binary(Binary::ShiftRight, bits, sixteen);
    let odd = b.binary(Binary::And, upper, one);
    let half = number(b, 0x7fff);
    let up = b.add(half, odd);
    let sum = b.add(bits, up);
    let mask = number(b, 0xffff_0000);
    let rounded = b.binary(Binary::And, sum, mask);
    b.bits(Scalar::F32, rounded)
}
