//! Reads the tiles and the steps of a block program; the grammar is in the card of [`super`].
//!
//! Takes tokens, gives steps whose tiles exist; the rest of the rules is for the verifier.

use crate::graph::text::cursor::{Cursor, Token};
use crate::graph::text::{ParseError, attribute};
use crate::ops::Attribute;
use crate::region::{numbered, whole_number};
use crate::tile::{Origin, Scope, Step, Tile, TileId, Transform};

use super::words::{exactly, range};

/// The names that programs give their tiles.
const TILE_NAMES: [&str; 22] = [
    "a", "acc", "b", "c", "ct", "dk", "dq", "dr", "drt", "dv", "k", "kt", "m", "o", "q", "qt",
    "rows", "s", "u", "v", "x", "y",
];

/// No program has more tiles than this.
const TILES_MAX: usize = 16;

/// Loops may nest this deep: rule T1 allows one over each axis.
pub(super) const LOOPS_MAX: usize = 3;

/// Reads the steps up to a closing brace; tiles are declared before the first of a program.
pub(super) fn body(
    cursor: &mut Cursor<'_>,
    tiles: &mut Vec<Tile>,
    loops: usize,
) -> Result<Vec<Step>, ParseError> {
    let mut steps = Vec::new();
    while !cursor.skip('}') {
        let Token::Word(first) = cursor.token() else {
            return Err(cursor.wanted("a step or `}`"));
        };
        let step = match first {
            "for" => looped(cursor, tiles, loops)?,
            "fold" | "zero" | "normalize" | "logarithm" | "online" | "weigh" | "store" => {
                cursor.advance();
                statement(cursor, tiles, first)?
            }
            _ => {
                let name = TILE_NAMES.into_iter().find(|name| *name == first);
                let name = name.ok_or_else(|| cursor.wanted("a step or the name of a tile"))?;
                let start = cursor.start();
                cursor.advance();
                if steps.is_empty() && loops == LOOPS_MAX && cursor.skip(':') {
                    declaration(cursor, tiles, name, start)?;
                    continue;
                }
                let place = tiles.iter().position(|tile| tile.name == name);
                let tile = place.ok_or_else(|| cursor.wanted_at(start, "a tile of the program"))?;
                assignment(cursor, tiles, TileId(tile as u32))?
            }
        };
        steps.push(step);
    }
    Ok(steps)
}

fn declaration(
    cursor: &mut Cursor<'_>,
    tiles: &mut Vec<Tile>,
    name: &'static str,
    start: usize,
) -> Result<(), ParseError> {
    if tiles.len() == TILES_MAX || tiles.iter().any(|tile| tile.name == name) {
        return Err(cursor.wanted_at(start, "at most 16 tiles, each of a name of its own"));
    }
    let scope = match cursor.token() {
        Token::Word("shared") => Scope::Shared,
        Token::Word("fragment") => Scope::Fragment,
        _ => return Err(cursor.wanted("`shared` or `fragment`")),
    };
    cursor.advance();
    cursor.keyword("f32", "`f32` and the extents")?;
    let [planes, rows, columns] = exactly(cursor, "planes, rows and columns")?;
    tiles.push(Tile {
        name,
        scope,
        planes,
        rows,
        columns,
    });
    Ok(())
}

fn looped(
    cursor: &mut Cursor<'_>,
    tiles: &mut Vec<Tile>,
    loops: usize,
) -> Result<Step, ParseError> {
    let Some(loops) = loops.checked_sub(1) else {
        return Err(cursor.wanted("at most three nested loops"));
    };
    cursor.advance();
    let start = cursor.start();
    let over = origin(cursor)?;
    if over == Origin::Zero {
        return Err(cursor.wanted_at(start, "`row`, `column` or `k`"));
    }
    cursor.keyword("in", "`in`")?;
    let start = cursor.start();
    let (0, extent) = range(cursor, "the axis as a range such as 0..64")? else {
        return Err(cursor.wanted_at(start, "a range that begins at 0"));
    };
    cursor.keyword("by", "`by`")?;
    let start = cursor.start();
    let step = whole_number(cursor)?;
    if step == 0 {
        return Err(cursor.wanted_at(start, "parts of at least one"));
    }
    cursor.expect(',', "`,`")?;
    cursor.keyword("stages", "`stages`")?;
    let stages = whole_number(cursor)?;
    cursor.expect('{', "`{`")?;
    Ok(Step::Loop {
        over,
        extent,
        step,
        stages,
        body: body(cursor, tiles, loops)?,
    })
}

/// Reads what follows the word that a step begins with.
fn statement(cursor: &mut Cursor<'_>, tiles: &[Tile], first: &str) -> Result<Step, ParseError> {
    match first {
        "zero" => Ok(Step::Zero {
            tile: tile(cursor, tiles)?,
        }),
        "normalize" => Ok(Step::Normalize {
            acc: tile(cursor, tiles)?,
        }),
        "logarithm" => Ok(Step::LogSum {
            acc: tile(cursor, tiles)?,
        }),
        "online" => online(cursor, tiles),
        "fold" => fold(cursor, tiles),
        "weigh" => weigh(cursor, tiles),
        _ => {
            let tile = match cursor.skip_word("epilogue") {
                true => None,
                false => Some(tile(cursor, tiles)?),
            };
            let transform = transform(cursor)?;
            Ok(Step::Store { tile, transform })
        }
    }
}

fn fold(cursor: &mut Cursor<'_>, tiles: &[Tile]) -> Result<Step, ParseError> {
    let acc = tile(cursor, tiles)?;
    cursor.expect(',', "`,`")?;
    let from = tile(cursor, tiles)?;
    let with = match cursor.skip('·') {
        true => Some(tile(cursor, tiles)?),
        false => None,
    };
    let down = cursor.skip_word("down");
    Ok(Step::Fold {
        acc,
        from,
        with,
        down,
    })
}

fn online(cursor: &mut Cursor<'_>, tiles: &[Tile]) -> Result<Step, ParseError> {
    let scores = tile(cursor, tiles)?;
    cursor.expect(',', "`,`")?;
    let acc = tile(cursor, tiles)?;
    let (scale, causal, mask) = scaled(cursor)?;
    Ok(Step::Online {
        scores,
        acc,
        scale,
        causal,
        mask,
    })
}

fn weigh(cursor: &mut Cursor<'_>, tiles: &[Tile]) -> Result<Step, ParseError> {
    let scores = tile(cursor, tiles)?;
    cursor.expect(',', "`,`")?;
    let changes = tile(cursor, tiles)?;
    cursor.keyword("by", "`by`")?;
    let log_sum = view_number(cursor)?;
    cursor.expect(',', "`,`")?;
    let result = view_number(cursor)?;
    cursor.expect(',', "`,`")?;
    let gradient = view_number(cursor)?;
    let (scale, causal, mask) = scaled(cursor)?;
    Ok(Step::Weigh {
        scores,
        changes,
        log_sum,
        results: [result, gradient],
        scale,
        causal,
        mask,
    })
}

/// Reads what becomes of scores: a factor, and what hides some.
fn scaled(cursor: &mut Cursor<'_>) -> Result<(f64, bool, Option<usize>), ParseError> {
    cursor.keyword("scale", "`scale`")?;
    let start = cursor.start();
    let Attribute::Float(scale) = attribute::read(cursor, &mut 0)? else {
        return Err(cursor.wanted_at(start, "a number with a fraction or an exponent"));
    };
    let causal = cursor.skip_word("causal");
    let mask = match cursor.skip_word("mask") {
        true => Some(view_number(cursor)?),
        false => None,
    };
    Ok((scale, causal, mask))
}

/// Reads what follows the tile that a step writes.
fn assignment(cursor: &mut Cursor<'_>, tiles: &[Tile], made: TileId) -> Result<Step, ParseError> {
    if cursor.skip('[') {
        let first = whole_number(cursor)?;
        cursor.expect('+', "`+`")?;
        let rows = origin(cursor)?;
        for wanted in [']', '+', '='] {
            cursor.expect(wanted, "`] +=`")?;
        }
        let from = tile(cursor, tiles)?;
        let acc = made;
        return Ok(Step::AddRows {
            acc,
            from,
            first,
            rows,
        });
    }
    if cursor.skip('+') {
        cursor.expect('=', "`+=`")?;
        let left = tile(cursor, tiles)?;
        cursor.expect('·', "`·`")?;
        let right = tile(cursor, tiles)?;
        cursor.expect('ᵀ', "`ᵀ`")?;
        let acc = made;
        return Ok(Step::Mma { acc, left, right });
    }
    cursor.expect('=', "`=` or `+=`")?;
    let Token::Word(word @ ("copy" | "gather" | "rows" | "transpose")) = cursor.token() else {
        return Err(cursor.wanted("`copy`, `gather`, `rows` or `transpose`"));
    };
    cursor.advance();
    if word == "transpose" {
        let from = tile(cursor, tiles)?;
        return Ok(Step::Transpose { from, to: made });
    }
    if word == "rows" {
        let from = tile(cursor, tiles)?;
        return Ok(Step::Rows { from, to: made });
    }
    let view = view_number(cursor)?;
    cursor.expect('[', "`[`")?;
    if word == "gather" {
        let indices = view_number(cursor)?;
        cursor.expect(']', "`]`")?;
        return Ok(Step::Gather {
            tile: made,
            table: view,
            indices,
        });
    }
    let rows = origin(cursor)?;
    cursor.expect(',', "`,`")?;
    let columns = origin(cursor)?;
    cursor.expect(']', "`]`")?;
    Ok(Step::Copy {
        tile: made,
        view,
        rows,
        columns,
        transform: transform(cursor)?,
    })
}

fn tile(cursor: &mut Cursor<'_>, tiles: &[Tile]) -> Result<TileId, ParseError> {
    let found = tiles
        .iter()
        .position(|tile| cursor.token() == Token::Word(tile.name));
    let found = found.ok_or_else(|| cursor.wanted("a tile of the program"))?;
    cursor.advance();
    Ok(TileId(found as u32))
}

fn view_number(cursor: &mut Cursor<'_>) -> Result<usize, ParseError> {
    Ok(numbered(cursor, 'v', "a view such as v0")? as usize)
}

fn origin(cursor: &mut Cursor<'_>) -> Result<Origin, ParseError> {
    let origin = match cursor.token() {
        Token::Number("0") => Origin::Zero,
        Token::Word("row") => Origin::Rows,
        Token::Word("column") => Origin::Columns,
        Token::Word("k") => Origin::Depth,
        _ => return Err(cursor.wanted("`0`, `row`, `column` or `k`")),
    };
    cursor.advance();
    Ok(origin)
}

fn transform(cursor: &mut Cursor<'_>) -> Result<Option<Transform>, ParseError> {
    let transform = match cursor.token() {
        Token::Word("winograd_input") => Transform::WinogradInput,
        Token::Word("winograd_weight") => Transform::WinogradWeight,
        Token::Word("winograd_output") => Transform::WinogradOutput,
        Token::Word("winograd_gradient") => Transform::WinogradGradient,
        Token::Word("winograd_weight_gradient") => Transform::WinogradWeightGradient,
        _ => return Ok(None),
    };
    cursor.advance();
    Ok(Some(transform(whole_number(cursor)?)))
}
