//! Reads extents, the grammar that `Dim` prints.
//!
//! Takes tokens, gives [`Dim`]s in normal form. Parentheses nest to a limit, and so does the
//! size of an expression, also while it is multiplied out.

use super::cursor::{Cursor, Token};
use super::error::ParseError;
use crate::value::dim::Dim;
use crate::value::extents::{EXTENT_PARTS_MAX, is_bounded};
use crate::value::words::is_identifier;

/// Parentheses may nest this deep.
const DEPTH_MAX: usize = 32;

/// Reads `[extent, …]`, refusing shapes that no tensor may have.
pub(super) fn shape(cursor: &mut Cursor<'_>) -> Result<Vec<Dim>, ParseError> {
    let start = cursor.start();
    let dims = list(cursor)?;
    match is_bounded(&dims) {
        true => Ok(dims),
        false => Err(cursor.intricate(start)),
    }
}

/// Reads `[extent, …]`.
pub(super) fn list(cursor: &mut Cursor<'_>) -> Result<Vec<Dim>, ParseError> {
    cursor.expect('[', "`[`")?;
    cursor.list(']', "`,` or `]`", extent)
}

/// Reads one extent.
pub(super) fn extent(cursor: &mut Cursor<'_>) -> Result<Dim, ParseError> {
    let negative = cursor.skip('-');
    signed_extent(cursor, negative)
}

/// Reads an extent of which a leading minus has been read.
pub(super) fn signed_extent(cursor: &mut Cursor<'_>, negative: bool) -> Result<Dim, ParseError> {
    sum(cursor, negative, DEPTH_MAX)
}

fn sum(cursor: &mut Cursor<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    let start = cursor.start();
    let mut total = term(cursor, negative, depth)?;
    loop {
        let negative = match cursor.token() {
            Token::Mark('+') => false,
            Token::Mark('-') => true,
            _ => return Ok(total),
        };
        cursor.advance();
        total = total.add(&term(cursor, negative, depth)?);
        if total.size() > EXTENT_PARTS_MAX {
            return Err(cursor.intricate(start));
        }
    }
}

fn term(cursor: &mut Cursor<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    let start = cursor.start();
    let mut product = match (cursor.token(), negative) {
        (Token::Number(_), _) => divided(cursor, negative, depth)?,
        (_, true) => Dim::from(-1).mul(&divided(cursor, false, depth)?),
        (_, false) => divided(cursor, false, depth)?,
    };
    while cursor.skip('*') {
        let factor = divided(cursor, false, depth)?;
        if product.size().saturating_mul(factor.size()) > EXTENT_PARTS_MAX * EXTENT_PARTS_MAX {
            return Err(cursor.intricate(start));
        }
        product = product.mul(&factor);
        if product.size() > EXTENT_PARTS_MAX {
            return Err(cursor.intricate(start));
        }
    }
    Ok(product)
}

fn divided(cursor: &mut Cursor<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    let start = cursor.start();
    let mut dim = primary(cursor, negative, depth)?;
    while cursor.skip('/') {
        let divisor = cursor.read("a positive integer", |token| {
            token.number()?.parse().ok().filter(|&by| by > 0)
        })?;
        dim = dim.floor_div(divisor);
        if dim.size() > EXTENT_PARTS_MAX {
            return Err(cursor.intricate(start));
        }
    }
    Ok(dim)
}

fn primary(cursor: &mut Cursor<'_>, negative: bool, depth: usize) -> Result<Dim, ParseError> {
    const WANTED: &str = "an extent: an integer, a symbol or a sum in parentheses";
    match cursor.token() {
        Token::Number(digits) => {
            let sign = if negative { "-" } else { "" };
            let value = format!("{sign}{digits}").parse::<i64>();
            let value = value.map_err(|_| cursor.wanted("an integer of 64 bits"))?;
            cursor.advance();
            Ok(Dim::from(value))
        }
        Token::Word(name) if is_identifier(name) => {
            cursor.advance();
            Ok(Dim::symbol(name))
        }
        Token::Quoted(raw) => Ok(Dim::symbol(&cursor.unescape(raw, "a symbol")?)),
        Token::Mark('(') => {
            let depth = depth.checked_sub(1);
            let depth = depth.ok_or_else(|| cursor.wanted("at most 32 nested parentheses"))?;
            cursor.advance();
            let negative = cursor.skip('-');
            let dim = sum(cursor, negative, depth)?;
            cursor.expect(')', "`)`, `+`, `-`, `*` or `/`")?;
            Ok(dim)
        }
        _ => Err(cursor.wanted(WANTED)),
    }
}
