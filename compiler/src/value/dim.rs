//! Extents of tensors, known or symbolic (`batch`, `(height + 1) / 2`).
//!
//! Takes symbols and integers, gives expressions in one normal form, so that equal extents are
//! structurally equal: a sum of products of symbols and floor divisions. Arithmetic saturates:
//! a graph with absurd sizes reaches the verifier's limit instead of wrapping around.

use std::collections::BTreeMap;
use std::fmt;

use super::words::{is_identifier, write_quoted};

/// An extent, or an integer computed from extents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim {
    /// Coefficient of each product; never zero. The empty product is the constant.
    terms: BTreeMap<Vec<Atom>, i64>,
}

/// What a product multiplies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    /// An extent that is bound at compile time; at least 1.
    Symbol(String),
    /// A division rounded towards minus infinity, by a positive divisor.
    FloorDiv(Dim, i64),
}

/// What symbols stand for.
pub type Bindings = BTreeMap<String, usize>;

impl Dim {
    /// The symbol `name`, at least 1 when bound. It prints in backquotes unless it is an
    /// identifier (letters, digits, `_`, `.`).
    pub fn symbol(name: &str) -> Dim {
        Dim {
            terms: BTreeMap::from([(vec![Atom::Symbol(name.to_owned())], 1)]),
        }
    }

    /// The integer, if no symbol is left.
    pub fn known(&self) -> Option<i64> {
        match self.terms.first_key_value() {
            None => Some(0),
            Some((product, &value)) if product.is_empty() && self.terms.len() == 1 => Some(value),
            Some(_) => None,
        }
    }

    /// The extent, if it is known and not negative.
    pub fn extent(&self) -> Option<usize> {
        self.known().and_then(|value| usize::try_from(value).ok())
    }

    /// The count; 0 where it is not known.
    pub(crate) fn counted(&self) -> u64 {
        let count = self.known().map(u64::try_from);
        count.and_then(Result::ok).unwrap_or(0)
    }

    /// The name, if this is a bare symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        let (product, &coefficient) = self.terms.first_key_value()?;
        match product.as_slice() {
            [Atom::Symbol(name)] if self.terms.len() == 1 && coefficient == 1 => Some(name),
            _ => None,
        }
    }

    /// Whether this is known to equal `value`.
    pub fn is(&self, value: i64) -> bool {
        self.known() == Some(value)
    }

    /// The sum.
    pub fn add(&self, other: &Dim) -> Dim {
        let mut terms = self.terms.clone();
        for (product, &coefficient) in &other.terms {
            add_term(&mut terms, product.clone(), coefficient);
        }
        Dim { terms }
    }

    /// The difference.
    pub fn sub(&self, other: &Dim) -> Dim {
        self.add(&other.mul(&Dim::from(-1)))
    }

    /// The product.
    pub fn mul(&self, other: &Dim) -> Dim {
        let mut terms = BTreeMap::new();
        for (left, &a) in &self.terms {
            for (right, &b) in &other.terms {
                let mut product = [left.as_slice(), right.as_slice()].concat();
                product.sort();
                add_term(&mut terms, product, a.saturating_mul(b));
            }
        }
        Dim { terms }
    }

    /// The quotient, rounded towards minus infinity. What divides exactly is divided: the rest
    /// stays under the division.
    ///
    /// # Panics
    /// When `divisor` is not positive: callers check strides and block sizes first.
    pub fn floor_div(&self, divisor: i64) -> Dim {
        assert!(divisor > 0, "divisor {divisor} must be positive");
        let (mut whole, mut rest) = (Dim::from(0), Dim::from(0));
        for (product, &coefficient) in &self.terms {
            let quotient = coefficient.div_euclid(divisor);
            add_term(&mut whole.terms, product.clone(), quotient);
            add_term(
                &mut rest.terms,
                product.clone(),
                coefficient.rem_euclid(divisor),
            );
        }
        if rest.known().is_some() {
            return whole;
        }
        if let Some(once) = rest.divided_once(divisor) {
            return whole.add(&once);
        }
        whole.add(&Dim {
            terms: BTreeMap::from([(vec![Atom::FloorDiv(rest, divisor)], 1)]),
        })
    }

    /// `(x/a + c) / divisor` as the one division that it is, `(x + a·c) / (a·divisor)`.
    fn divided_once(&self, divisor: i64) -> Option<Dim> {
        let constant = self.terms.get(&Vec::new()).copied().unwrap_or(0);
        let mut others = self.terms.iter().filter(|(product, _)| !product.is_empty());
        match (others.next(), others.next()) {
            (Some((product, 1)), None) => match product.as_slice() {
                [Atom::FloorDiv(inner, by)] => {
                    let shifted = inner.add(&Dim::from(constant.checked_mul(*by)?));
                    Some(shifted.floor_div(by.checked_mul(divisor)?))
                }
                _ => None,
            },
            (_, _) => None,
        }
    }

    /// `self / other` when that is an integer for every binding that normal form can prove;
    /// needed to resolve the `-1` of a reshape.
    pub fn exact_div(&self, other: &Dim) -> Option<Dim> {
        if other.terms.len() != 1 {
            return (self == other).then(|| Dim::from(1));
        }
        let (divisor, &by) = other.terms.first_key_value()?;
        let mut terms = BTreeMap::new();
        for (product, &coefficient) in &self.terms {
            if coefficient.checked_rem(by)? != 0 {
                return None;
            }
            let mut left = product.clone();
            for atom in divisor {
                let position = left.iter().position(|candidate| candidate == atom)?;
                left.remove(position);
            }
            add_term(&mut terms, left, coefficient.checked_div(by)?);
        }
        Some(Dim { terms })
    }

    /// The same expression with each bound symbol replaced.
    pub fn bind(&self, bindings: &Bindings) -> Dim {
        self.terms
            .iter()
            .fold(Dim::from(0), |sum, (product, &coefficient)| {
                let factor = product.iter().fold(Dim::from(coefficient), |factor, atom| {
                    factor.mul(&atom.bind(bindings))
                });
                sum.add(&factor)
            })
    }

    /// The number of terms of the sum.
    pub(crate) fn terms(&self) -> usize {
        self.terms.len()
    }

    /// Whether this is one term other than a bare symbol.
    fn is_product(&self) -> bool {
        self.terms.len() == 1 && self.as_symbol().is_none()
    }

    /// A value that this is never below, whatever the symbols are bound to (each is at least 1);
    /// `None` where the form does not tell.
    pub fn lower_bound(&self) -> Option<i64> {
        let mut bound = 0i64;
        for (product, &coefficient) in &self.terms {
            let least = product.iter().try_fold(1i64, |least, atom| {
                let atom = match atom {
                    Atom::Symbol(_) => 1,
                    Atom::FloorDiv(inner, divisor) => inner.lower_bound()?.div_euclid(*divisor),
                };
                (atom >= 0).then(|| least.saturating_mul(atom))
            })?;
            if coefficient < 0 && !product.is_empty() {
                return None;
            }
            bound = bound.saturating_add(least.saturating_mul(coefficient));
        }
        Some(bound)
    }

    /// The number of symbols and integers in the expression: a measure of what arithmetic on it
    /// costs, for callers that compute with expressions out of files.
    pub fn size(&self) -> usize {
        let atoms = self.terms.keys().flatten().map(|atom| match atom {
            Atom::Symbol(_) => 1,
            Atom::FloorDiv(inner, _) => 1 + inner.size(),
        });
        atoms.sum::<usize>() + self.terms.len()
    }

    /// Adds the names of the symbols to `names`.
    pub fn symbols(&self, names: &mut std::collections::BTreeSet<String>) {
        for atom in self.terms.keys().flatten() {
            match atom {
                Atom::Symbol(name) => {
                    names.insert(name.clone());
                }
                Atom::FloorDiv(inner, _) => inner.symbols(names),
            }
        }
    }
}

impl Atom {
    fn bind(&self, bindings: &Bindings) -> Dim {
        match self {
            Atom::Symbol(name) => match bindings.get(name) {
                Some(&value) => Dim::from(value),
                None => Dim::symbol(name),
            },
            Atom::FloorDiv(inner, divisor) => inner.bind(bindings).floor_div(*divisor),
        }
    }
}

fn add_term(terms: &mut BTreeMap<Vec<Atom>, i64>, product: Vec<Atom>, coefficient: i64) {
    let sum = terms
        .get(&product)
        .copied()
        .unwrap_or(0)
        .saturating_add(coefficient);
    if sum == 0 {
        terms.remove(&product);
    } else {
        terms.insert(product, sum);
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        let mut terms = BTreeMap::new();
        add_term(&mut terms, Vec::new(), value);
        Dim { terms }
    }
}

impl From<i32> for Dim {
    fn from(value: i32) -> Dim {
        Dim::from(i64::from(value))
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Dim {
        Dim::from(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Dim {
    /// Constants print as integers, sums in parentheses: `64`, `batch`, `(height/2 + 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        if self.terms.len() > 1 {
            f.write_str("(")?;
        }
        // The constant has the empty product and so the first key; people expect it last.
        for (index, (product, &coefficient)) in self.terms.iter().rev().enumerate() {
            if index > 0 {
                f.write_str(if coefficient < 0 { " - " } else { " + " })?;
            } else if coefficient < 0 {
                f.write_str("-")?;
            }
            let magnitude = coefficient.unsigned_abs();
            match (magnitude, product.is_empty()) {
                (_, true) => write!(f, "{magnitude}")?,
                (1, false) => {}
                (_, false) => write!(f, "{magnitude}*")?,
            }
            // A division beside another factor or a sign would read as dividing that too.
            let alone = product.len() == 1 && (coefficient == 1 || (magnitude == 1 && index > 0));
            for (position, atom) in product.iter().enumerate() {
                f.write_str(if position > 0 { "*" } else { "" })?;
                match (atom, alone) {
                    (Atom::Symbol(_), _) | (Atom::FloorDiv(..), true) => write!(f, "{atom}")?,
                    (Atom::FloorDiv(..), false) => write!(f, "({atom})")?,
                }
            }
        }
        if self.terms.len() > 1 {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) if is_identifier(name) => f.write_str(name),
            Atom::Symbol(name) => write_quoted(f, name, '`'),
            // A sum brings its own parentheses; a product needs some under a division.
            Atom::FloorDiv(inner, divisor) if inner.is_product() => {
                write!(f, "({inner})/{divisor}")
            }
            Atom::FloorDiv(inner, divisor) => write!(f, "{inner}/{divisor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h() -> Dim {
        Dim::symbol("h")
    }

    #[test]
    fn equal_extents_are_equal_structurally() {
        let half = h().add(&Dim::from(1)).floor_div(2);
        let cases = [
            (h().mul(&Dim::from(2)).floor_div(2), h(), "2h/2"),
            (
                h().add(&Dim::from(2)).floor_div(2),
                h().floor_div(2).add(&Dim::from(1)),
                "(h+2)/2",
            ),
            (half.add(&half), half.mul(&Dim::from(2)), "x+x"),
            (h().sub(&h()), Dim::from(0), "h-h"),
            (
                half.add(&Dim::from(1)).floor_div(2),
                h().add(&Dim::from(3)).floor_div(4),
                "((h+1)/2+1)/2",
            ),
        ];
        for (left, right, name) in cases {
            assert_eq!(left, right, "{name}");
        }
    }

    #[test]
    fn binding_evaluates() {
        let dim = h().add(&Dim::from(1)).floor_div(2).mul(&Dim::symbol("w"));
        let bindings = Bindings::from([("h".to_owned(), 15), ("w".to_owned(), 3)]);
        assert_eq!(dim.bind(&bindings).known(), Some(24));
        assert_eq!(Dim::from(-3).floor_div(2).known(), Some(-2));
    }

    #[test]
    fn exact_division_refuses_what_it_cannot_prove() {
        let area = h().mul(&Dim::symbol("w")).mul(&Dim::from(6));
        let third = area.exact_div(&h().mul(&Dim::from(3)));
        assert_eq!(third, Some(Dim::symbol("w").mul(&Dim::from(2))));
        assert_eq!(area.exact_div(&Dim::from(4)), None);
        assert_eq!(area.exact_div(&Dim::from(0)), None);
        assert_eq!(Dim::from(0).exact_div(&h()), Some(Dim::from(0)));
    }

    #[test]
    fn lower_bounds_hold_for_every_binding() {
        let half = h().add(&Dim::from(1)).floor_div(2);
        let cases = [
            (h(), Some(1)),
            (h().mul(&Dim::from(3)).sub(&Dim::from(5)), Some(-2)),
            (half.mul(&h()), Some(1)),
            (Dim::from(4).sub(&h()), None),
            (Dim::from(-4), Some(-4)),
        ];
        for (dim, bound) in cases {
            assert_eq!(dim.lower_bound(), bound, "{dim}");
        }
        assert_eq!((h().size(), half.size(), Dim::from(0).size()), (2, 5, 0));
    }

    #[test]
    fn printing_reads_as_people_write() {
        let dim = h().sub(&Dim::from(3)).floor_div(4).add(&Dim::from(-2));
        assert_eq!(dim.to_string(), "((h + 1)/4 - 3)");
        assert_eq!(Dim::from(-2).mul(&h()).to_string(), "-2*h");
        let nested = h().mul(&Dim::from(2)).floor_div(3).mul(&Dim::symbol("b"));
        assert_eq!(nested.to_string(), "b*((2*h)/3)");
        let half = h().floor_div(2);
        assert_eq!(half.mul(&Dim::from(2)).to_string(), "2*(h/2)");
        assert_eq!(Dim::from(1).sub(&half).to_string(), "(-(h/2) + 1)");
        assert_eq!(Dim::symbol("batch size").to_string(), "`batch size`");
    }
}
