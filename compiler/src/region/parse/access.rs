//! Reads access maps and index arithmetic, as regions and block programs print them.
//!
//! Takes tokens of text that may be hostile, gives accesses whose indices are computed without
//! overflow at every index of their domain. That they stay within their buffers is for
//! [`crate::region::verify`], which knows the buffers. It simplifies nothing: what is printed reads
//! back as it was.
//!
//! ```text
//! access = (piece ("|" piece)* | "nothing") ["else" tensor] ":" dtype "[" extent, … "]"
//! piece  = "b"N ["[" index, … "]"] ["where" bound ("and" bound)*]
//! bound  = number "<=" index "<" number
//! index  = ["-"] term (("+" | "-") term)*      term = [number "*"] atom | number
//! atom   = "i"N | "(" index ")" | "(" atom ("/" | "%") number ")"
//! ```
//! A piece without indices is read at those of the domain.

use crate::graph::text::ParseError;
use crate::graph::text::cursor::{Cursor, Token};
use crate::graph::text::tensor;
use crate::region::{Access, Bound, Buffer, Index, Part, Piece, Scope};

/// Numbers and extents are at most this: a sum of products of two of them is one of 128 bits.
pub(crate) const NUMBER_MAX: u64 = 1 << 48;

/// What an index and all parts of it may reach, so that no sum on the way to it overflows.
const REACH_MAX: i128 = 1 << 60;

/// Parentheses may nest this deep.
const DEPTH_MAX: usize = 32;

/// An index may have this many parts; see `access::INDEX_PARTS_MAX`, which counts a whole access.
const PARTS_MAX: usize = 1024;

/// A tensor has no more axes than this; views have those of all roles.
const AXES_MAX: usize = 64;

const WANTED_NUMBER: &str = "an integer of at most 48 bits";

/// Reads an access.
pub(crate) fn read_access(cursor: &mut Cursor<'_>) -> Result<Access, ParseError> {
    let start = cursor.start();
    let mut pieces = Vec::new();
    match cursor.token() {
        Token::Word("nothing") => cursor.advance(),
        _ => pieces.push(piece(cursor)?),
    }
    while cursor.skip('|') {
        pieces.push(piece(cursor)?);
    }
    let fill = match cursor.skip_word("else") {
        true => {
            let wanted = "one number of the element type";
            let dtype = cursor.dtype()?;
            let fill = tensor::read(cursor, dtype, &mut 0)?;
            if fill.elements() != 1 {
                return Err(cursor.wanted_at(start, wanted));
            }
            Some(fill)
        }
        false => None,
    };
    cursor.expect(':', "`|`, `where`, `else` or `:` and the type")?;
    let dtype = cursor.dtype()?;
    let shape = extents(cursor)?;
    let whole = |(buffer, index, bounds): Unshaped| Piece {
        buffer,
        index: index.unwrap_or_else(|| Index::identity(&shape)),
        bounds,
    };
    let access = Access {
        dtype,
        pieces: pieces.into_iter().map(whole).collect(),
        fill,
        shape: shape.clone(),
    };
    if access
        .fill
        .as_ref()
        .is_some_and(|fill| fill.dtype() != dtype)
    {
        return Err(cursor.wanted_at(start, "a border of the element type"));
    }
    match access.pieces.iter().all(|piece| is_bounded(piece, &shape)) {
        true => Ok(access),
        false => Err(cursor.wanted_at(start, "indices on axes that it has, of at most 60 bits")),
    }
}

/// A piece before the domain is known.
type Unshaped = (Buffer, Option<Vec<Index>>, Vec<Bound>);

fn piece(cursor: &mut Cursor<'_>) -> Result<Unshaped, ParseError> {
    let buffer = Buffer(numbered(cursor, 'b', "a buffer such as b7")?);
    let index = match cursor.skip('[') {
        true => Some(list(cursor, index)?),
        false => None,
    };
    let mut bounds = Vec::new();
    let mut next = "where";
    while cursor.skip_word(next) {
        bounds.push(bound(cursor)?);
        next = "and";
    }
    Ok((buffer, index, bounds))
}

fn bound(cursor: &mut Cursor<'_>) -> Result<Bound, ParseError> {
    let start = signed_number(cursor)?;
    cursor.expect('<', "`<=`")?;
    cursor.expect('=', "`<=`")?;
    let index = index(cursor)?;
    cursor.expect('<', "`<`")?;
    Ok(Bound::new(&index, start, signed_number(cursor)?))
}

pub(super) fn index(cursor: &mut Cursor<'_>) -> Result<Index, ParseError> {
    let (index, _) = sum(cursor, DEPTH_MAX)?;
    Ok(index)
}

/// Reads a sum; tells whether it is an atom alone, which may be divided as it stands.
fn sum(cursor: &mut Cursor<'_>, depth: usize) -> Result<(Index, bool), ParseError> {
    let start = cursor.start();
    let negative = cursor.skip('-');
    let (first, atom) = term(cursor, depth)?;
    let mut total = first.times(if negative { -1 } else { 1 });
    let mut alone = atom && !negative;
    loop {
        let sign = match cursor.token() {
            Token::Mark('+') => 1,
            Token::Mark('-') => -1,
            _ => return Ok((total, alone)),
        };
        cursor.advance();
        let (next, _) = term(cursor, depth)?;
        total = total.merged(&next.times(sign));
        alone = false;
        if !is_small(&total) {
            return Err(cursor.wanted_at(start, "a sum of smaller numbers in fewer parts"));
        }
    }
}

/// Reads a term; tells whether it is an atom without a factor.
fn term(cursor: &mut Cursor<'_>, depth: usize) -> Result<(Index, bool), ParseError> {
    if !matches!(cursor.token(), Token::Number(_)) {
        return Ok((atom(cursor, depth)?, true));
    }
    let start = cursor.start();
    let number = number(cursor)?;
    if !cursor.skip('*') {
        return Ok((Index::constant(number), false));
    }
    let atom = atom(cursor, depth)?;
    match is_part(&atom) {
        true => Ok((atom.times(number), false)),
        false => Err(cursor.wanted_at(start, "a number times an axis, a quotient or a remainder")),
    }
}

/// Whether an index is one part, with a factor of 1.
fn is_part(index: &Index) -> bool {
    let (constant, mut parts) = index.parts();
    constant == 0 && parts.len() == 1 && parts.all(|(_, factor)| factor == 1)
}

fn atom(cursor: &mut Cursor<'_>, depth: usize) -> Result<Index, ParseError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cursor.wanted("at most 32 nested parentheses"));
    };
    if !cursor.skip('(') {
        let axis = numbered(
            cursor,
            'i',
            "an index: a number, an axis such as i0, or `(`",
        )?;
        return Ok(Index::written(Part::Axis(axis as usize)));
    }
    let (inner, alone) = sum(cursor, depth)?;
    let atom = match cursor.token() {
        Token::Mark('/') if alone => {
            cursor.advance();
            let divisor = divisor(cursor)?;
            Index::written(Part::Div(&inner, divisor))
        }
        // `%4` is one token: elsewhere it is a value of a graph.
        Token::Value(digits) if alone => {
            let divisor = digits
                .parse()
                .ok()
                .filter(|&by| (1..=NUMBER_MAX).contains(&by));
            let divisor = divisor.ok_or_else(|| cursor.wanted("a positive integer"))?;
            cursor.advance();
            Index::written(Part::Mod(&inner, divisor as i64))
        }
        _ => inner,
    };
    cursor.expect(')', "`)`; sums are divided in parentheses of their own")?;
    Ok(atom)
}

fn divisor(cursor: &mut Cursor<'_>) -> Result<i64, ParseError> {
    let start = cursor.start();
    match number(cursor)? {
        0 => Err(cursor.wanted_at(start, "a positive integer")),
        divisor => Ok(divisor),
    }
}

/// Whether a sum is still small enough to add another to it.
fn is_small(index: &Index) -> bool {
    let (constant, mut parts) = index.parts();
    let small = |number: i64| number.unsigned_abs() <= NUMBER_MAX;
    small(constant) && parts.all(|(_, factor)| small(factor)) && index.size() <= PARTS_MAX
}

/// Whether the walk and the bounds of a piece are computed without overflow in all of `domain`.
fn is_bounded(piece: &Piece, domain: &[usize]) -> bool {
    let bounds = piece.bounds.iter().map(|bound| &bound.index);
    let mut walks = piece.index.iter().chain(bounds);
    walks.all(|index| reaches(index, domain))
}

/// Whether an index is computed without overflow in all of `domain`, on axes that it has.
pub(super) fn reaches(index: &Index, domain: &[usize]) -> bool {
    let scope = Scope::of(domain);
    let (constant, parts) = index.parts();
    let mut reach = i128::from(constant).abs();
    for (part, factor) in parts {
        let fits = match part {
            Part::Axis(axis) => axis < domain.len(),
            Part::Div(inner, _) | Part::Mod(inner, _) => reaches(inner, domain),
        };
        if !fits {
            return false;
        }
        let (least, most) = Index::written(part).range(scope);
        reach += least.abs().max(most.abs()) * i128::from(factor).abs();
    }
    reach <= REACH_MAX
}

/// Reads `[extent, …]`, all known.
pub(crate) fn extents(cursor: &mut Cursor<'_>) -> Result<Vec<usize>, ParseError> {
    let start = cursor.start();
    cursor.expect('[', "`[`")?;
    let extents = list(cursor, whole_number)?;
    let elements = extents.iter().try_fold(1u64, |product, &extent| {
        let product = product.checked_mul((extent as u64).max(1))?;
        (product <= NUMBER_MAX).then_some(product)
    });
    match elements {
        Some(_) if extents.len() <= AXES_MAX => Ok(extents),
        Some(_) | None => Err(cursor.intricate(start)),
    }
}

/// Reads what remains of `[item, …]` after its bracket.
pub(super) fn list<T>(
    cursor: &mut Cursor<'_>,
    item: impl Fn(&mut Cursor<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    cursor.list(']', "`,` or `]`", item)
}

/// Reads a word of `letter` and a number.
pub(crate) fn numbered(
    cursor: &mut Cursor<'_>,
    letter: char,
    wanted: &'static str,
) -> Result<u32, ParseError> {
    cursor.read(wanted, |token| {
        let digits = token.word()?.strip_prefix(letter)?;
        digits.parse().ok()
    })
}

/// Reads a number that is not negative.
pub(crate) fn whole_number(cursor: &mut Cursor<'_>) -> Result<usize, ParseError> {
    let start = cursor.start();
    let number = usize::try_from(number(cursor)?);
    number.map_err(|_| cursor.wanted_at(start, WANTED_NUMBER))
}

fn signed_number(cursor: &mut Cursor<'_>) -> Result<i64, ParseError> {
    let sign = if cursor.skip('-') { -1 } else { 1 };
    Ok(sign * number(cursor)?)
}

fn number(cursor: &mut Cursor<'_>) -> Result<i64, ParseError> {
    cursor.read(WANTED_NUMBER, |token| {
        let number = token.number()?.parse().ok();
        number.filter(|&number: &i64| number.unsigned_abs() <= NUMBER_MAX)
    })
}
