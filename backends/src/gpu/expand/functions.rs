//! Pointwise functions of floats: the one table from operators to expressions of a kernel.
//!
//! Takes an operator and its operands as F32 lanes, gives the result. Formulas avoid what WGSL
//! leaves to the implementation: overflow to infinity inside of a quotient, powers of negative
//! numbers.

use compiler::DType;
use compiler::kernel::{Binary, Builder, Constant, Scalar, Unary, Value};
use compiler::ops::{Cast, Gelu, GeluForm, Op};
use compiler::value::tensor::Values;

/// The largest exponent that is taken: `e^88` is still finite.
const EXPONENT_MAX: f32 = 88.0;

/// The result of a pointwise operator.
///
/// # Panics
/// For an operator that is not pointwise or whose result is no float: block programs have none.
pub(crate) fn apply(b: &mut Builder, op: &Op, operands: &[Value]) -> Value {
    let lanes = b.type_of(operands[0]).lanes;
    let mut e = Lanes { b, lanes };
    let x = operands[0];
    match op {
        Op::Abs(_) => e.unary(Unary::Abs, x),
        Op::Add(_) => e.binary(Binary::Add, x, operands[1]),
        Op::Cast(Cast { dtype }) => e.round(*dtype, x),
        Op::Ceil(_) => e.unary(Unary::Ceil, x),
        Op::Cos(_) => e.unary(Unary::Cos, x),
        Op::Div(_) => e.binary(Binary::Div, x, operands[1]),
        Op::Erf(_) => e.erf(x),
        Op::Exp(_) => e.unary(Unary::Exp, x),
        Op::Floor(_) => e.unary(Unary::Floor, x),
        Op::Gelu(Gelu { form }) => match form {
            GeluForm::Erf => e.gelu_erf(x),
            GeluForm::Tanh => e.gelu_tanh(x),
            GeluForm::Quick => {
                let scaled = e.times(x, 1.702);
                let gate = e.sigmoid(scaled);
                e.binary(Binary::Mul, x, gate)
            }
        },
        Op::Log(_) => e.unary(Unary::Log, x),
        Op::Max(_) => e.binary(Binary::Max, x, operands[1]),
        Op::Min(_) => e.binary(Binary::Min, x, operands[1]),
        Op::Mul(_) => e.binary(Binary::Mul, x, operands[1]),
        Op::Neg(_) => e.unary(Unary::Neg, x),
        Op::Pow(_) => e.pow(x, operands[1]),
        Op::Reciprocal(_) => {
            let one = e.number(1.0);
            e.binary(Binary::Div, one, x)
        }
        Op::Relu(_) => {
            let zero = e.number(0.0);
            e.binary(Binary::Max, x, zero)
        }
        Op::Sigmoid(_) => e.sigmoid(x),
        Op::Silu(_) => {
            let gate = e.sigmoid(x);
            e.binary(Binary::Mul, x, gate)
        }
        Op::Sin(_) => e.unary(Unary::Sin, x),
        Op::Sqrt(_) => e.unary(Unary::Sqrt, x),
        Op::Sub(_) => e.binary(Binary::Sub, x, operands[1]),
        Op::Tanh(_) => {
            // tanh(x) = 2σ(2x) − 1.
            let twice = e.times(x, 2.0);
            let gate = e.sigmoid(twice);
            let gate = e.times(gate, 2.0);
            e.plus(gate, -1.0)
        }
        other => unreachable!("{} is no pointwise function of floats", other.name()),
    }
}

/// Whether [`apply`] has an operator whose operands and result are floats of at most 32 bits.
pub(crate) fn has(op: &Op) -> bool {
    match op {
        Op::Cast(Cast { dtype }) => matches!(dtype, DType::F32 | DType::F16 | DType::BF16),
        Op::Abs(_)
        | Op::Add(_)
        | Op::Call(_)
        | Op::Ceil(_)
        | Op::Cos(_)
        | Op::Div(_)
        | Op::Erf(_)
        | Op::Exp(_)
        | Op::Floor(_)
        | Op::Gelu(_)
        | Op::Log(_)
        | Op::Max(_)
        | Op::Min(_)
        | Op::Mul(_)
        | Op::Neg(_)
        | Op::Pow(_)
        | Op::Reciprocal(_)
        | Op::Relu(_)
        | Op::Sigmoid(_)
        | Op::Silu(_)
        | Op::Sin(_)
        | Op::Sqrt(_)
        | Op::Sub(_)
        | Op::Tanh(_) => true,
        Op::And(_)
        | Op::Argmax(_)
        | Op::Attention(_)
        | Op::AttentionGradient(_)
        | Op::AttentionLogSum(_)
        | Op::AveragePool(_)
        | Op::Broadcast(_)
        | Op::Concat(_)
        | Op::Constant(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::ConvWeightGradient(_)
        | Op::Cumsum(_)
        | Op::Dot(_)
        | Op::Equal(_)
        | Op::Gather(_)
        | Op::GatherNd(_)
        | Op::Geglu(_)
        | Op::GroupNorm(_)
        | Op::GroupStatistics(_)
        | Op::Iota(_)
        | Op::IsNan(_)
        | Op::LayerNorm(_)
        | Op::Less(_)
        | Op::LessEqual(_)
        | Op::Linear(_)
        | Op::Matmul(_)
        | Op::Not(_)
        | Op::Or(_)
        | Op::Pad(_)
        | Op::ReduceMax(_)
        | Op::ReduceMean(_)
        | Op::ReduceSum(_)
        | Op::Reshape(_)
        | Op::ScatterNd(_)
        | Op::Select(_)
        | Op::Slice(_)
        | Op::Softmax(_)
        | Op::StopGradient(_)
        | Op::Transpose(_)
        | Op::Trilu(_)
        | Op::UpsampleNearest(_) => false,
    }
}

/// Numbers in so many lanes.
struct Lanes<'a> {
    b: &'a mut Builder,
    lanes: u8,
}

impl Lanes<'_> {
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

    fn round(&mut self, dtype: DType, x: Value) -> Value {
        match dtype {
            DType::BF16 => round_bf16(self.b, x),
            DType::F16 => {
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
            DType::Bool
            | DType::U8
            | DType::I8
            | DType::I32
            | DType::I64
            | DType::F32
            | DType::F64 => x,
        }
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
