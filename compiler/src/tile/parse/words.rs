//! Words, ranges and extents that programs and their steps share.

use crate::graph::text::ParseError;
use crate::graph::text::cursor::Cursor;
use crate::region::{NUMBER_MAX, extents};

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
    let number = |digits: &str| {
        let number: u64 = digits.parse().ok()?;
        usize::try_from(number)
            .ok()
            .filter(|_| number <= NUMBER_MAX)
    };
    cursor.read(wanted, |token| {
        let (first, end) = token.number()?.split_once("..")?;
        Some((number(first)?, number(end)?))
    })
}
