//! Between which numbers an integer lies.
//!
//! Takes what is known of the operands of an I32, gives the least and the greatest that it can be.
//! Where arithmetic may wrap, it can be anything. It changes nothing.

use crate::kernel::Binary;

/// The least and the greatest number that an I32 can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Range {
    /// Anything.
    pub(super) const ALL: Range = Range {
        low: i32::MIN as i64,
        high: i32::MAX as i64,
    };

    /// From `low` to `high`, or anything where that is no I32.
    pub(super) fn new(low: i64, high: i64) -> Range {
        match Range::ALL.low <= low && low <= high && high <= Range::ALL.high {
            true => Range { low, high },
            false => Range::ALL,
        }
    }

    /// One number.
    pub(super) fn one(number: i32) -> Range {
        Range::new(number.into(), number.into())
    }

    /// The number, if it can be but one.
    pub(super) fn known(self) -> Option<i32> {
        match self.low == self.high {
            true => i32::try_from(self.low).ok(),
            false => None,
        }
    }

    /// Whether all of it is also in `other`.
    pub(super) fn is_in(self, other: Range) -> bool {
        other.low <= self.low && self.high <= other.high
    }

    /// What lies in either.
    pub(super) fn or(self, other: Range) -> Range {
        Range {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    /// What lies in both; itself where nothing does.
    pub(super) fn and(self, low: i64, high: i64) -> Range {
        let (low, high) = (self.low.max(low), self.high.min(high));
        match low <= high {
            true => Range { low, high },
            false => self,
        }
    }

    /// What all four corners span.
    fn corners(self, other: Range, f: impl Fn(i64, i64) -> i64) -> Range {
        let corners = [
            f(self.low, other.low),
            f(self.low, other.high),
            f(self.high, other.low),
            f(self.high, other.high),
        ];
        let [first, rest @ ..] = corners;
        let low = rest.into_iter().fold(first, i64::min);
        Range::new(low, rest.into_iter().fold(first, i64::max))
    }

    /// What a function of two integers gives, if it gives an integer.
    pub(super) fn binary(function: Binary, a: Range, b: Range) -> Range {
        match function {
            Binary::Add => Range::new(a.low + b.low, a.high + b.high),
            Binary::Sub => Range::new(a.low - b.high, a.high - b.low),
            Binary::Mul => a.corners(b, |a, b| a * b),
            Binary::Min => Range::new(a.low.min(b.low), a.high.min(b.high)),
            Binary::Max => Range::new(a.low.max(b.low), a.high.max(b.high)),
            Binary::Div if b.low > 0 => a.corners(b, |a, b| a / b),
            Binary::Rem if b.low > 0 => {
                let most = b.high - 1;
                let low = if a.low < 0 { (-most).max(a.low) } else { 0 };
                let high = if a.high > 0 { most.min(a.high) } else { 0 };
                Range::new(low, high)
            }
            Binary::And if a.low >= 0 && b.low >= 0 => Range::new(0, a.high.min(b.high)),
            Binary::And if a.low >= 0 => Range::new(0, a.high),
            Binary::And if b.low >= 0 => Range::new(0, b.high),
            Binary::Or | Binary::Xor if a.low >= 0 && b.low >= 0 => {
                let most = a.high.max(b.high) as u64;
                Range::new(0, ((most + 1).next_power_of_two() - 1) as i64)
            }
            Binary::ShiftLeft if b.low >= 0 && b.high < 32 => a.corners(b, |a, b| a << b),
            Binary::ShiftRight if b.low >= 0 && b.high < 32 => a.corners(b, |a, b| a >> b),
            Binary::Div | Binary::Rem | Binary::And | Binary::Or | Binary::Xor => Range::ALL,
            Binary::ShiftLeft | Binary::ShiftRight | Binary::Pow => Range::ALL,
            Binary::Less | Binary::LessEqual | Binary::Equal => Range::ALL,
        }
    }

    /// Whether a comparison holds, if that is known.
    pub(super) fn compare(function: Binary, a: Range, b: Range) -> Option<bool> {
        let less = |a: Range, b: Range| {
            let known = a.high < b.low || a.low >= b.high;
            known.then_some(a.high < b.low)
        };
        if function == Binary::Less {
            return less(a, b);
        }
        if function == Binary::LessEqual {
            return less(b, a).map(|is_above| !is_above);
        }
        let same = a.known().is_some() && a == b;
        let known = same || a.high < b.low || b.high < a.low;
        (function == Binary::Equal && known).then_some(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_functions_give() {
        let numbers: Vec<i64> = (-9..=9).collect();
        let functions = [
            (Binary::Add, i64::wrapping_add as fn(i64, i64) -> i64),
            (Binary::Sub, i64::wrapping_sub),
            (Binary::Mul, i64::wrapping_mul),
            (Binary::Min, i64::min),
            (Binary::Max, i64::max),
            (Binary::Div, |a, b| if b == 0 { 0 } else { a / b }),
            (Binary::Rem, |a, b| if b == 0 { 0 } else { a % b }),
            (Binary::And, |a, b| a & b),
            (Binary::Or, |a, b| a | b),
            (Binary::Xor, |a, b| a ^ b),
            (Binary::ShiftLeft, |a, b| if b < 0 { 0 } else { a << b }),
            (Binary::ShiftRight, |a, b| if b < 0 { 0 } else { a >> b }),
        ];
        for (function, f) in functions {
            for (low, high) in [(-9, 9), (0, 5), (3, 9), (-4, -1), (7, 7)] {
                for (other_low, other_high) in [(-9, 9), (0, 5), (2, 4), (-4, 1)] {
                    let (a, b) = (Range::new(low, high), Range::new(other_low, other_high));
                    let made = Range::binary(function, a, b);
                    let inside = |x: i64, range: Range| range.low <= x && x <= range.high;
                    for &x in numbers.iter().filter(|&&x| inside(x, a)) {
                        for &y in numbers.iter().filter(|&&y| inside(y, b)) {
                            assert!(inside(f(x, y), made), "{function:?} {x} {y} {made:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_may_wrap_can_be_anything() {
        let large = Range::new(0, i64::from(i32::MAX));
        for function in [Binary::Add, Binary::Mul, Binary::ShiftLeft] {
            assert_eq!(
                Range::binary(function, large, Range::new(1, 2)),
                Range::ALL,
                "{function:?}"
            );
        }
    }
}
