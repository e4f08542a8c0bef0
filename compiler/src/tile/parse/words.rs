//! Words, ranges and extents that programs and their steps share.

use crate::graph::text::ParseError;
use crate::graph::text::cursor::{Cursor, Token};
use crate::region::{NUMBER_MAX, extents, skip_word};

/// Reads `[n, …]` of so many extents.
pub(super) fn exactly<const N: usize>(
    cursor: &mut Cursor<'_>,
    wanted: &'static str,
) -> Result<[usize; N], ParseError> {
    let start = cursor.start();
    let found = extents(cursor)?;
    <[usize; N]>::try_from(found).map_err(|_| cursor.wanted_at(start, wanted))
}

/// Reads `first..end`, which is one token.
pub(super) fn range(
    cursor: &mut Cursor<'_>,
    wanted: &'static str,
) -> Result<(usize, usize), ParseError> {
    let range = match cursor.token() {
        Token::Number(digits) => digits.split_once(".."),
        _ => None,
    };
    let number = |digits: &str| digits.parse().ok().filter(|&n: &u64| n <= NUMBER_MAX);
    let range = range.and_then(|(first, end)| Some((number(first)?, number(end)?)));
    let ends = range
        .and_then(|(first, end)| Some((usize::try_from(first).ok()?, usize::try_from(end).ok()?)));
    let ends = ends.ok_or_else(|| cursor.wanted(wanted))?;
    cursor.advance();
    Ok(ends)
}

/// Goes past a word that must be here.
pub(super) fn word(
    cursor: &mut Cursor<'_>,
    word: &str,
    wanted: &'static str,
) -> Result<(), ParseError> {
    match skip_word(cursor, word) {
        true => Ok(()),
        false => Err(cursor.wanted(wanted)),
    }
}
