//! Index arithmetic: sums of axes with coefficients, floor divisions and remainders.
//!
//! Takes the axes of a domain of known extents, gives expressions in one normal form, so that
//! equal walks over memory compare and hash equal: what a range proves is simplified away. It
//! knows no tensor and reads no data.

use std::collections::BTreeMap;
use std::fmt;

/// An integer for every index of a domain: `constant + Σ coefficient · atom`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index {
    constant: i64,
    // Sorted by atom; no coefficient is 0.
    terms: Vec<(Atom, i64)>,
}

/// A part of an [`Index`] that cannot be split further.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Axis(usize),
    /// Rounded towards minus infinity, by a positive number.
    Div(Box<Index>, i64),
    /// The remainder of that division, which is never negative.
    Mod(Box<Index>, i64),
}

/// A part of an [`Index`] as others read it: what its coefficient multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The index on that axis of the domain.
    Axis(usize),
    /// The quotient by a positive number, rounded towards minus infinity.
    Div(&'a Index, i64),
    /// The remainder of that division, which is never negative.
    Mod(&'a Index, i64),
}

/// A condition on indices: `start <= index < end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bound {
    /// What is bounded; its constant is 0.
    pub index: Index,
    /// The least value allowed.
    pub start: i64,
    /// The first value above `start` that is not.
    pub end: i64,
}

/// What is known of the indices of a domain.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The extents of the axes, outermost first; none is 0.
    pub extents: &'a [usize],
    /// Conditions that hold.
    pub bounds: &'a [Bound],
}

impl<'a> Scope<'a> {
    /// All indices of a domain.
    pub fn of(extents: &'a [usize]) -> Scope<'a> {
        Scope {
            extents,
            bounds: &[],
        }
    }
}

/// A part of one axis in a mixed-radix system: `axis / divisor % modulus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digit {
    pub(super) axis: usize,
    pub(super) divisor: i64,
    pub(super) modulus: i64,
    pub(super) coefficient: i64,
}

impl Index {
    /// The number itself, at every index.
    pub fn constant(constant: i64) -> Index {
        let terms = Vec::new();
        Index { constant, terms }
    }

    /// The index on `axis`.
    pub fn axis(axis: usize) -> Index {
        Index::atom(Atom::Axis(axis))
    }

    /// The index on `axis` of `extent` elements: 0 where there is one element only.
    pub fn along(axis: usize, extent: usize) -> Index {
        match extent {
            1 => Index::constant(0),
            _ => Index::axis(axis),
        }
    }

    /// Every index of a domain: the walk that changes nothing.
    pub fn identity(shape: &[usize]) -> Vec<Index> {
        let axes = shape.iter().enumerate();
        axes.map(|(axis, &extent)| Index::along(axis, extent))
            .collect()
    }

    /// A part as it stands in text: nothing is simplified.
    pub(super) fn written(part: Part<'_>) -> Index {
        Index::atom(match part {
            Part::Axis(axis) => Atom::Axis(axis),
            Part::Div(inner, d) => Atom::Div(Box::new(inner.clone()), d),
            Part::Mod(inner, d) => Atom::Mod(Box::new(inner.clone()), d),
        })
    }

    fn atom(atom: Atom) -> Index {
        let terms = vec![(atom, 1)];
        Index { constant: 0, terms }
    }

    /// The constant, and the parts with their coefficients, none of which is 0: the value is
    /// `constant + Σ coefficient · part`. Whoever walks memory compiles it to additions.
    pub fn parts(&self) -> (i64, impl ExactSizeIterator<Item = (Part<'_>, i64)>) {
        let terms = self.terms.iter();
        let parts = terms.map(|(atom, coefficient)| (atom.part(), *coefficient));
        (self.constant, parts)
    }

    /// The axis that this is, if it is one.
    pub fn as_axis(&self) -> Option<usize> {
        match (self.constant, self.terms.as_slice()) {
            (0, [(Atom::Axis(axis), 1)]) => Some(*axis),
            (_, _) => None,
        }
    }

    /// The number that this is everywhere, if it is one.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The sum with a number.
    pub fn plus(mut self, number: i64) -> Index {
        self.constant += number;
        self
    }

    /// The product with a number.
    pub fn times(mut self, number: i64) -> Index {
        if number == 0 {
            return Index::constant(0);
        }
        self.constant *= number;
        self.terms.iter_mut().for_each(|(_, c)| *c *= number);
        self
    }

    /// The sum.
    pub fn add(&self, other: &Index) -> Index {
        self.merged(other).rejoined()
    }

    /// The sum as it stands in text: only equal parts are added.
    pub(super) fn merged(&self, other: &Index) -> Index {
        let mut terms: BTreeMap<Atom, i64> = self.terms.iter().cloned().collect();
        for (atom, coefficient) in &other.terms {
            *terms.entry(atom.clone()).or_insert(0) += coefficient;
        }
        terms.retain(|_, coefficient| *coefficient != 0);
        let constant = self.constant + other.constant;
        let terms = terms.into_iter().collect();
        Index { constant, terms }
    }

    /// Puts a quotient and its remainder together: `d · (x / d) + x % d = x`.
    fn rejoined(mut self) -> Index {
        let pair = self.terms.iter().find_map(|(atom, coefficient)| {
            let Atom::Mod(inner, d) = atom else {
                return None;
            };
            // Of x / a, the quotient by d is kept as x / (a · d).
            let quotient = match inner.terms.as_slice() {
                [(Atom::Div(x, a), 1)] if inner.constant == 0 => Atom::Div(x.clone(), a * d),
                _ => Atom::Div(inner.clone(), *d),
            };
            let wanted = (quotient, coefficient * d);
            self.terms
                .contains(&wanted)
                .then(|| (atom.clone(), wanted.0, inner.clone(), *coefficient))
        });
        let Some((remainder, quotient, inner, coefficient)) = pair else {
            return self;
        };
        self.terms
            .retain(|(atom, _)| *atom != remainder && *atom != quotient);
        self.add(&inner.times(coefficient))
    }

    /// The floor of the quotient by a positive number.
    pub fn div(&self, divisor: i64, scope: Scope<'_>) -> Index {
        let (mut whole, rest) = self.split(divisor);
        whole.terms.iter_mut().for_each(|(_, c)| *c /= divisor);
        whole.constant /= divisor;
        let (least, most) = rest.range(scope);
        if least >= 0 && most < i128::from(divisor) {
            return whole;
        }
        whole.add(&rest.quotient(divisor, scope))
    }

    /// The remainder by a positive number, never negative.
    pub fn modulo(&self, divisor: i64, scope: Scope<'_>) -> Index {
        let (_, rest) = self.split(divisor);
        let (least, most) = rest.range(scope);
        if least >= 0 && most < i128::from(divisor) {
            return rest;
        }
        if let Some((high, low, g)) = rest.carried(divisor, scope) {
            return high.modulo(divisor / g, scope).times(g).add(&low);
        }
        if let [(Atom::Mod(inner, m), 1)] = rest.terms.as_slice()
            && rest.constant == 0
            && m % divisor == 0
        {
            return inner.modulo(divisor, scope);
        }
        Index::atom(Atom::Mod(Box::new(rest), divisor))
    }

    /// The quotient of what no whole multiple can be taken from.
    fn quotient(&self, divisor: i64, scope: Scope<'_>) -> Index {
        if let Some((high, _, g)) = self.carried(divisor, scope) {
            return high.div(divisor / g, scope);
        }
        match self.terms.as_slice() {
            [(Atom::Div(inner, d), 1)] if self.constant == 0 => inner.div(d * divisor, scope),
            [(Atom::Mod(inner, m), 1)] if self.constant == 0 && m % divisor == 0 => {
                inner.div(divisor, scope).modulo(m / divisor, scope)
            }
            _ => Index::atom(Atom::Div(Box::new(self.clone()), divisor)),
        }
    }

    /// Splits off the terms that are multiples of `divisor`; the rest's constant lies in
    /// `0..divisor`.
    fn split(&self, divisor: i64) -> (Index, Index) {
        let (whole, rest) = self
            .terms
            .iter()
            .cloned()
            .partition(|(_, coefficient)| coefficient % divisor == 0);
        let constant = self.constant.rem_euclid(divisor);
        let whole = Index {
            constant: self.constant - constant,
            terms: whole,
        };
        let terms = rest;
        (whole, Index { constant, terms })
    }

    /// The expression as `g · high + low` with `g` a divisor of `divisor` above 1 and `low` in
    /// `0..g`, if it can be seen to be one: then `low` carries nothing into the quotient.
    fn carried(&self, divisor: i64, scope: Scope<'_>) -> Option<(Index, Index, i64)> {
        let mut terms = self.terms.clone();
        terms.sort_by_key(|(_, coefficient)| -coefficient.abs());
        (1..=terms.len()).rev().find_map(|count| {
            let coefficients = terms[..count]
                .iter()
                .map(|(_, coefficient)| coefficient.abs());
            let g = coefficients.fold(divisor, gcd);
            let (mut high, mut low) = (Index::constant(0), Index::constant(self.constant));
            for (place, (atom, coefficient)) in terms.iter().enumerate() {
                let term = Index::atom(atom.clone());
                match place < count {
                    true => high = high.add(&term.times(coefficient / g)),
                    false => low = low.add(&term.times(*coefficient)),
                }
            }
            high.constant += low.constant.div_euclid(g);
            low.constant = low.constant.rem_euclid(g);
            let (least, most) = low.range(scope);
            (g > 1 && least >= 0 && most < i128::from(g)).then_some((high, low, g))
        })
    }

    /// The least and the greatest value that the scope allows, or a wider range.
    pub fn range(&self, scope: Scope<'_>) -> (i128, i128) {
        let constant = i128::from(self.constant);
        let sum = |sum: (i128, i128), (atom, coefficient): &(Atom, i64)| {
            let (least, most) = atom.range(scope);
            let ends = [least, most].map(|end| end * i128::from(*coefficient));
            (sum.0 + ends[0].min(ends[1]), sum.1 + ends[0].max(ends[1]))
        };
        let mut range = self.terms.iter().fold((constant, constant), sum);
        for bound in scope.bounds {
            if bound.index.terms == self.terms {
                range.0 = range.0.max(i128::from(bound.start) + constant);
                range.1 = range.1.min(i128::from(bound.end) - 1 + constant);
            }
        }
        range
    }

    /// The same expression with every axis replaced by an expression over another domain.
    pub fn substitute(&self, axes: &[Index], scope: Scope<'_>) -> Index {
        let constant = Index::constant(self.constant);
        self.terms
            .iter()
            .fold(constant, |sum, (atom, coefficient)| {
                let atom = match atom {
                    Atom::Axis(axis) => axes[*axis].clone(),
                    Atom::Div(inner, d) => inner.substitute(axes, scope).div(*d, scope),
                    Atom::Mod(inner, d) => inner.substitute(axes, scope).modulo(*d, scope),
                };
                sum.add(&atom.times(*coefficient))
            })
    }

    /// Whether the value depends on an axis.
    pub fn uses(&self, axis: usize) -> bool {
        self.terms.iter().any(|(atom, _)| match atom {
            Atom::Axis(own) => *own == axis,
            Atom::Div(inner, _) | Atom::Mod(inner, _) => inner.uses(axis),
        })
    }

    /// The number of axes, divisions and terms in it.
    pub fn size(&self) -> usize {
        let size = |(atom, _): &(Atom, i64)| match atom {
            Atom::Axis(_) => 1,
            Atom::Div(inner, _) | Atom::Mod(inner, _) => 1 + inner.size(),
        };
        self.terms.iter().map(size).sum()
    }

    /// The value at one index.
    pub fn at(&self, index: &[usize]) -> i64 {
        let value = |atom: &Atom| match atom {
            Atom::Axis(axis) => index[*axis] as i64,
            Atom::Div(inner, d) => inner.at(index).div_euclid(*d),
            Atom::Mod(inner, d) => inner.at(index).rem_euclid(*d),
        };
        let terms = self.terms.iter();
        self.constant + terms.map(|(atom, c)| c * value(atom)).sum::<i64>()
    }

    /// The digits whose sum this is, if it is one of a mixed-radix system over these extents.
    pub(super) fn digits(&self, extents: &[usize]) -> Option<Vec<Digit>> {
        let digit = |(atom, coefficient): &(Atom, i64)| {
            let (axis, divisor, modulus) = match atom {
                Atom::Axis(axis) => (*axis, 1, extents[*axis] as i64),
                Atom::Div(inner, d) => {
                    let axis = inner.as_axis()?;
                    let extent = extents[axis] as i64;
                    (axis, *d, (extent % d == 0).then_some(extent / d)?)
                }
                Atom::Mod(inner, m) => match (inner.as_axis(), inner.terms.as_slice()) {
                    (Some(axis), _) => (axis, 1, *m),
                    (None, [(Atom::Div(inner, d), 1)]) => (inner.as_axis()?, *d, *m),
                    (None, _) => return None,
                },
            };
            Some(Digit {
                axis,
                divisor,
                modulus,
                coefficient: *coefficient,
            })
        };
        match self.constant {
            0 => self.terms.iter().map(digit).collect(),
            _ => None,
        }
    }
}

impl Atom {
    fn part(&self) -> Part<'_> {
        match self {
            Atom::Axis(axis) => Part::Axis(*axis),
            Atom::Div(inner, d) => Part::Div(inner, *d),
            Atom::Mod(inner, d) => Part::Mod(inner, *d),
        }
    }

    fn range(&self, scope: Scope<'_>) -> (i128, i128) {
        let range = match self {
            Atom::Axis(axis) => (0, scope.extents[*axis] as i128 - 1),
            Atom::Div(inner, d) => quotients(inner.range(scope), *d),
            Atom::Mod(_, d) => (0, i128::from(*d) - 1),
        };
        scope.bounds.iter().fold(range, |(least, most), bound| {
            let ends = (i128::from(bound.start), i128::from(bound.end) - 1);
            let said = match bound.index.terms.as_slice() {
                [(atom, 1)] => self.follows(atom).map(|d| quotients(ends, d)),
                _ => None,
            };
            said.map_or((least, most), |said| (least.max(said.0), most.min(said.1)))
        })
    }

    /// The number by which `other`, rounded down, gives this: `x / (e · d)` is `(x / e) / d`, and
    /// `(x / d) % m` is `(x % (d · m)) / d`.
    fn follows(&self, other: &Atom) -> Option<i64> {
        let (whole, d) = match self {
            Atom::Axis(_) => (None, 1),
            Atom::Div(inner, d) => (Some(inner), *d),
            Atom::Mod(inner, m) => match (other, inner.terms.as_slice(), inner.constant) {
                (Atom::Mod(whole, n), [(Atom::Div(x, d), 1)], 0) if whole == x && *n == d * m => {
                    return Some(*d);
                }
                (_, _, _) => (None, 1),
            },
        };
        match (whole, other) {
            (Some(x), Atom::Div(whole, e)) if whole == x && d % e == 0 => Some(d / e),
            (_, _) => (self == other).then_some(1),
        }
    }
}

/// The range of the quotients of a range, rounded down.
fn quotients((least, most): (i128, i128), divisor: i64) -> (i128, i128) {
    let d = i128::from(divisor);
    (least.div_euclid(d), most.div_euclid(d))
}

impl Bound {
    /// The condition `start <= index < end`, its constant moved to the numbers.
    pub fn new(index: &Index, start: i64, end: i64) -> Bound {
        let constant = index.constant;
        Bound {
            index: index.clone().plus(-constant),
            start: start - constant,
            end: end - constant,
        }
    }

    /// Whether the condition holds at one index.
    pub fn holds(&self, index: &[usize]) -> bool {
        (self.start..self.end).contains(&self.index.at(index))
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (atom, coefficient)) in self.terms.iter().enumerate() {
            let sign = match (position, *coefficient < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            match coefficient.unsigned_abs() {
                1 => write!(f, "{sign}{atom}")?,
                size => write!(f, "{sign}{size}*{atom}")?,
            }
        }
        match (self.terms.is_empty(), self.constant) {
            (false, 0) => Ok(()),
            (true, constant) => write!(f, "{constant}"),
            (false, constant) if constant < 0 => write!(f, " - {}", constant.unsigned_abs()),
            (false, constant) => write!(f, " + {constant}"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inner, mark, d) = match self {
            Atom::Axis(axis) => return write!(f, "i{axis}"),
            Atom::Div(inner, d) => (inner, '/', d),
            Atom::Mod(inner, d) => (inner, '%', d),
        };
        match (inner.constant, inner.terms.as_slice()) {
            (0, [(_, 1)]) => write!(f, "({inner}{mark}{d})"),
            (_, _) => write!(f, "(({inner}){mark}{d})"),
        }
    }
}

#[cfg(test)]
mod tests;
