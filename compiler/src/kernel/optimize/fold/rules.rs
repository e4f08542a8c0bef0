//! The rules of [`super`]: one expression, what it becomes.
//!
//! Takes an expression whose operands are as simple as they get, gives a simpler one, or none. A
//! rule looks one or two expressions deep and never makes more work.

use super::range::Range;
use super::{Change, State};
use crate::kernel::{Binary, Constant, Expression, Scalar, Type, Unary, Value, compute};

impl State {
    /// What an expression becomes, if it does.
    pub(super) fn change(&self, expression: &Expression, ty: Type) -> Option<Change> {
        if let Some(constant) = self.computed(expression, ty) {
            return Some(Change::Known(constant));
        }
        match expression {
            Expression::Binary(function, a, b) => {
                let ty = self.ty(*a);
                match ty.scalar {
                    Scalar::Bool => self.truths(*function, [*a, *b]),
                    Scalar::I32 if ty.lanes == 1 => self.integers(*function, [*a, *b]),
                    Scalar::F32 if ty.lanes == 1 => self.floats(*function, [*a, *b]),
                    Scalar::I32 | Scalar::U32 | Scalar::F16 | Scalar::F32 => None,
                }
            }
            Expression::Unary(Unary::Not, x) => {
                let Expression::Unary(Unary::Not, x) = self.made(*x)? else {
                    return None;
                };
                Some(Change::To(*x))
            }
            Expression::Select(_, yes, no) if yes == no => Some(Change::To(*yes)),
            Expression::Select(condition, yes, no) => self
                .holds(*condition, super::DEPTH_MAX)
                .map(|holds| Change::To(if holds { *yes } else { *no })),
            Expression::Bits(scalar, x) => {
                let Expression::Bits(_, x) = self.made(*x)? else {
                    return None;
                };
                Some(match self.ty(*x).scalar == *scalar {
                    true => Change::To(*x),
                    false => Change::Is(Expression::Bits(*scalar, *x)),
                })
            }
            Expression::Extract(x, lane) => {
                let made = self.made(*x)?;
                if let Expression::Splat(x, _) = made {
                    return Some(Change::To(*x));
                }
                let Expression::Compose(lanes) = made else {
                    return None;
                };
                lanes.get(usize::from(*lane)).map(|x| Change::To(*x))
            }
            Expression::ExtractAt(x, lane) => {
                let lane = u8::try_from(self.integer(*lane)?).ok()?;
                let fits = lane < self.ty(*x).lanes;
                fits.then_some(Change::Is(Expression::Extract(*x, lane)))
            }
            Expression::Compose(lanes) => self.composed(lanes, ty),
            Expression::Constant(_)
            | Expression::Builtin(_)
            | Expression::Unary(..)
            | Expression::Fma(..)
            | Expression::Convert(..)
            | Expression::Splat(..)
            | Expression::Unpack(_)
            | Expression::Pack(_)
            | Expression::Mma(..)
            | Expression::Shuffle(..)
            | Expression::LoadMatrix(_)
            | Expression::Load(..) => None,
        }
    }

    /// All lanes of one value in their order are that value; equal lanes are one, repeated.
    fn composed(&self, lanes: &[Value], ty: Type) -> Option<Change> {
        let (first, rest) = lanes.split_first()?;
        if rest.iter().all(|lane| lane == first) {
            return Some(Change::Is(Expression::Splat(*first, ty.lanes)));
        }
        let Some(Expression::Extract(whole, 0)) = self.made(*first) else {
            return None;
        };
        let is_lane = |(number, lane): (usize, &Value)| {
            self.made(*lane) == Some(&Expression::Extract(*whole, number as u8))
        };
        let all = self.ty(*whole) == ty && lanes.iter().enumerate().all(is_lane);
        all.then_some(Change::To(*whole))
    }

    fn truths(&self, function: Binary, [a, b]: [Value; 2]) -> Option<Change> {
        let (known, other) = match (self.truth(a), self.truth(b)) {
            (Some(known), _) => (known, b),
            (None, Some(known)) => (known, a),
            (None, None) if a == b && function != Binary::Equal => return Some(Change::To(a)),
            (None, None) => return None,
        };
        match (function, known) {
            (Binary::And, true) | (Binary::Or, false) | (Binary::Equal, true) => {
                Some(Change::To(other))
            }
            (Binary::And, false) => Some(Change::Known(Constant::Bool(false))),
            (Binary::Or, true) => Some(Change::Known(Constant::Bool(true))),
            (Binary::Equal, false) => Some(Change::Is(Expression::Unary(Unary::Not, other))),
            (_, _) => None,
        }
    }

    /// `x · 1`, `x / 1` and `x - 0`: the only ones that keep a negative 0 and every rounding.
    fn floats(&self, function: Binary, [a, b]: [Value; 2]) -> Option<Change> {
        let word = |value: Value| self.known(value).map(compute::word);
        let is = |value: Value, number: f32| word(value) == Some(number.to_bits());
        let by_one = matches!(function, Binary::Mul | Binary::Div) && is(b, 1.0);
        if by_one || function == Binary::Sub && is(b, 0.0) {
            return Some(Change::To(a));
        }
        (function == Binary::Mul && is(a, 1.0)).then_some(Change::To(b))
    }

    fn integers(&self, function: Binary, [a, b]: [Value; 2]) -> Option<Change> {
        let (left, right) = (self.range(a), self.range(b));
        if let Some(holds) = Range::compare(function, left, right) {
            return Some(Change::Known(Constant::Bool(holds)));
        }
        if !function.compares()
            && let Some(number) = Range::binary(function, left, right).known()
            && has_value(function, right)
        {
            return Some(Change::Known(Constant::I32(number)));
        }
        if a == b
            && matches!(
                function,
                Binary::And | Binary::Or | Binary::Min | Binary::Max
            )
        {
            return Some(Change::To(a));
        }
        if a == b && matches!(function, Binary::Sub | Binary::Xor) {
            return Some(Change::Known(Constant::I32(0)));
        }
        if a == b && function.compares() {
            return Some(Change::Known(Constant::Bool(function != Binary::Less)));
        }
        let (is_below, is_above) = (left.high <= right.low, right.high <= left.low);
        match (function, is_below, is_above) {
            (Binary::Min, true, _) | (Binary::Max, _, true) => return Some(Change::To(a)),
            (Binary::Min, _, true) | (Binary::Max, true, _) => return Some(Change::To(b)),
            (_, _, _) => {}
        }
        match (self.integer(a), self.integer(b)) {
            (_, Some(number)) => self.by_number(function, a, number),
            (Some(_), None) if function.commutes() => {
                Some(Change::Is(Expression::Binary(function, b, a)))
            }
            (_, None) => None,
        }
    }

    /// A function of an integer and a known one.
    fn by_number(&self, function: Binary, a: Value, number: i32) -> Option<Change> {
        let range = self.range(a);
        let power = u32::try_from(number)
            .ok()
            .filter(|number| number.is_power_of_two())
            .map(|number| number.trailing_zeros() as i32);
        match (function, number, power) {
            (
                Binary::Add
                | Binary::Sub
                | Binary::Or
                | Binary::Xor
                | Binary::ShiftLeft
                | Binary::ShiftRight,
                0,
                _,
            )
            | (Binary::Mul | Binary::Div, 1, _) => Some(Change::To(a)),
            (Binary::Sub, _, _) => Some(Change::With(Binary::Add, a, number.wrapping_neg())),
            (Binary::Add, _, _) => {
                let (x, more) = self.operands(Binary::Add, a)?;
                Some(Change::With(Binary::Add, x, more.wrapping_add(number)))
            }
            (Binary::Mul, _, Some(power)) => Some(Change::With(Binary::ShiftLeft, a, power)),
            (Binary::Mul, _, None) => {
                let (x, times) = self.scaled(a)?;
                Some(Change::With(Binary::Mul, x, times.wrapping_mul(number)))
            }
            (Binary::ShiftLeft, _, _) => {
                let (x, times) = self.scaled(a)?;
                let times = times.wrapping_mul(1i32.checked_shl(number.cast_unsigned())?);
                Some(Change::With(Binary::Mul, x, times))
            }
            (Binary::Div, 1.., _) => self.quotient(a, number, power),
            (Binary::ShiftRight, 0..31, _) => self.shifted(a, number),
            (Binary::Rem, 1.., _) => match self.split(a, number) {
                Some((_, Some(rest))) => Some(Change::To(rest)),
                Some((_, None)) => Some(Change::Known(Constant::I32(0))),
                None if range.is_in(Range::new(0, i64::from(number) - 1)) => Some(Change::To(a)),
                None if range.low >= 0 && power.is_some() => {
                    Some(Change::With(Binary::And, a, number - 1))
                }
                None => None,
            },
            // Bits below a power of two.
            (Binary::And, 1.., _) if (i64::from(number) + 1).count_ones() == 1 => {
                match self.split(a, number.wrapping_add(1)) {
                    Some((_, Some(rest))) => return Some(Change::To(rest)),
                    Some((_, None)) => return Some(Change::Known(Constant::I32(0))),
                    None if range.is_in(Range::new(0, number.into())) => {
                        return Some(Change::To(a));
                    }
                    None => {}
                }
                let (_, times, rest) = self.parts(a)?;
                (times & number == 0).then_some(Change::With(Binary::And, rest, number))
            }
            (_, _, _) => None,
        }
    }

    fn quotient(&self, a: Value, number: i32, power: Option<i32>) -> Option<Change> {
        if let Some((x, _)) = self.split(a, number) {
            return Some(Change::To(x));
        }
        if self.range(a).low < 0 {
            return None;
        }
        if let Some(power) = power {
            return Some(Change::With(Binary::ShiftRight, a, power));
        }
        let (x, before) = self.operands(Binary::Div, a)?;
        let fits = before > 0 && self.range(x).low >= 0;
        let both = before.checked_mul(number)?;
        fits.then_some(Change::With(Binary::Div, x, both))
    }

    fn shifted(&self, a: Value, number: i32) -> Option<Change> {
        if let Some((x, _)) = self.split(a, 1 << number) {
            return Some(Change::To(x));
        }
        if let Some((x, before)) = self.operands(Binary::ShiftRight, a) {
            let both = before.checked_add(number)?;
            let fits = (0..32).contains(&both);
            return fits.then_some(Change::With(Binary::ShiftRight, x, both));
        }
        // `(x · 2ⁿ + r) / 2ⁿ` is `x + r / 2ⁿ`, rounded down, where nothing wraps.
        let (whole, times, rest) = self.parts(a)?;
        let (range, times) = (self.range(whole), i64::from(times));
        let scaled = Range {
            low: range.low.checked_mul(times)?,
            high: range.high.checked_mul(times)?,
        };
        let other = self.range(rest);
        let sum = Range {
            low: scaled.low + other.low,
            high: scaled.high + other.high,
        };
        let fits = times == 1 << number && scaled.is_in(Range::ALL) && sum.is_in(Range::ALL);
        fits.then_some(Change::Apart(whole, rest, number))
    }

    /// `x`, `n` and `r` of `x · n + r`.
    fn parts(&self, value: Value) -> Option<(Value, i32, Value)> {
        let Expression::Binary(Binary::Add, a, b) = self.made(value)? else {
            return None;
        };
        match (self.scaled(*a), self.scaled(*b)) {
            (Some((x, times)), _) => Some((x, times, *b)),
            (None, Some((x, times))) => Some((x, times, *a)),
            (None, None) => None,
        }
    }

    /// The operands of a function of a value and a known integer.
    fn operands(&self, function: Binary, value: Value) -> Option<(Value, i32)> {
        let Expression::Binary(found, x, number) = self.made(value)? else {
            return None;
        };
        let number = self.integer(*number)?;
        (*found == function).then_some((*x, number))
    }

    /// `x` and `n` of `x · n`, also where it is a shift.
    fn scaled(&self, value: Value) -> Option<(Value, i32)> {
        let shift = || {
            let (x, by) = self.operands(Binary::ShiftLeft, value)?;
            Some((x, 1i32.checked_shl(by.cast_unsigned())?))
        };
        self.operands(Binary::Mul, value).or_else(shift)
    }

    /// `x` and `r` of `x · number + r` where `0 <= r < number`, `x` is not negative and nothing
    /// wraps; no `r` where it is 0.
    fn split(&self, value: Value, number: i32) -> Option<(Value, Option<Value>)> {
        let whole = |value: Value| match self.scaled(value) {
            Some((x, times)) if times == number && number > 0 => Some(x),
            Some(_) | None => None,
        };
        let (x, rest) = match (whole(value), self.made(value)) {
            (Some(x), _) => (x, None),
            (None, Some(Expression::Binary(Binary::Add, a, b))) => match (whole(*a), whole(*b)) {
                (Some(x), _) => (x, Some(*b)),
                (None, Some(x)) => (x, Some(*a)),
                (None, None) => return None,
            },
            (None, _) => return None,
        };
        let most = self.range(x).high * i64::from(number) + i64::from(number) - 1;
        let below = |rest| self.range(rest).is_in(Range::new(0, i64::from(number) - 1));
        let fits = self.range(x).low >= 0 && most <= Range::ALL.high;
        (fits && rest.is_none_or(below)).then_some((x, rest))
    }
}

/// Whether it has a value for every right operand in a range of I32.
fn has_value(function: Binary, right: Range) -> bool {
    let divides = matches!(function, Binary::Div | Binary::Rem);
    let shifts = matches!(function, Binary::ShiftLeft | Binary::ShiftRight);
    !(divides && right.low <= 0 || shifts && !right.is_in(Range::new(0, 31)))
}
