//! Reads block programs from text, the form that they print as.
//!
//! Takes text that may be hostile, gives programs that keep the rules of [`BlockProgram::verify`],
//! or the first place that is wrong. It neither panics, nor recurses deeper than a limit, nor
//! allocates more than a multiple of the text. Whether the views fit the buffers of some regions
//! is not in the text.
//!
//! ```text
//! program = "r"N name ":" "[" batch, rows, columns "]" "in" "blocks" "[" rows, columns "]" ","
//!           "grid" "[" N, N, N "]" "{" ("v"N "=" view)* output* tile* step* "}"
//! view    = access "as" "[" batch, planes, rows, columns "]"
//! output  = "o"N "=" "columns" first".."end "{" ("n"N "=" node)* "store" view "}"
//! node    = "plane" N | view | "computed"
//! tile    = name ":" ("shared" | "fragment") "f32" "[" planes, rows, columns "]"
//! step    = "for" axis "in" "0.."extent "by" N "," "stages" N "{" step* "}"
//!         | "zero" tile | tile "=" "copy" "v"N "[" origin, origin "]" [transform N]
//!         | tile "+=" tile "·" tile "ᵀ" | "normalize" tile | "logarithm" tile
//!         | tile "=" "rows" tile | tile "=" "transpose" tile
//!         | tile "[" N "+" origin "]" "+=" tile
//!         | "online" tile "," tile "scale" number ["causal"] ["mask" "v"N]
//!         | "weigh" tile "," tile "by" "v"N "," "v"N "," "v"N
//!           "scale" number ["causal"] ["mask" "v"N]
//!         | tile "=" "gather" "v"N "[" "v"N "]" | "store" (tile | "epilogue") [transform N]
//! ```
//! Views, outputs and nodes count from 0 in order; `#` begins a comment. An access is one of
//! regions.

use thiserror::Error;

use crate::graph::text::ParseError;
use crate::graph::text::cursor::{Cursor, Token};
use crate::region::{RegionId, numbered, read_access, whole_number};
use crate::tile::programs::names;
use crate::tile::{BlockProgram, OutputViews, Roles, TileError, View};

mod steps;
mod words;

use words::{exactly, range};

/// Why text is no block program.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TileParseError {
    /// The text leaves the grammar.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// The program breaks a rule.
    #[error("line {line}, column {column}: {source}")]
    Rule {
        /// The line where the program begins, from 1.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// The rule.
        source: TileError,
    },
}

/// Reads block programs, one after another.
///
/// # Errors
/// The first place where the text leaves the grammar, or the first program that breaks a rule.
pub fn parse(text: &str) -> Result<Vec<BlockProgram>, TileParseError> {
    let mut cursor = Cursor::new(text);
    let mut programs = Vec::new();
    while cursor.token() != Token::End {
        let (line, column) = cursor.place(cursor.start());
        let program = program(&mut cursor)?;
        program.verify().map_err(|source| TileParseError::Rule {
            line,
            column,
            source,
        })?;
        programs.push(program);
    }
    Ok(programs)
}

fn program(cursor: &mut Cursor<'_>) -> Result<BlockProgram, ParseError> {
    let region = RegionId(numbered(cursor, 'r', "a region such as r7")?);
    let name = names().find(|name| cursor.token() == Token::Word(name));
    let name = name.ok_or_else(|| cursor.wanted("the name of a tile program"))?;
    cursor.advance();
    cursor.expect(':', "`:`")?;
    let [batch, rows, columns] = exactly(cursor, "batch, rows and columns")?;
    cursor.keyword("in", "`in blocks`")?;
    cursor.keyword("blocks", "`blocks`")?;
    let block = exactly(cursor, "rows and columns of a block")?;
    cursor.expect(',', "`,`")?;
    cursor.keyword("grid", "`grid`")?;
    let mut program = BlockProgram {
        program: name,
        region,
        batch,
        rows,
        columns,
        block,
        tiles: Vec::new(),
        views: Vec::new(),
        outputs: Vec::new(),
        body: Vec::new(),
    };
    let start = cursor.start();
    if exactly(cursor, "three extents of the grid")? != program.grid() {
        return Err(cursor.wanted_at(start, "the grid of these blocks"));
    }
    cursor.expect('{', "`{`")?;
    while next_is(cursor, 'v', program.views.len())? {
        program.views.push(view(cursor)?);
    }
    while next_is(cursor, 'o', program.outputs.len())? {
        program.outputs.push(output(cursor)?);
    }
    program.body = steps::body(cursor, &mut program.tiles, steps::LOOPS_MAX)?;
    Ok(program)
}

/// Goes past `letter` with `number` and `=`, if a word of that letter and digits is here.
fn next_is(cursor: &mut Cursor<'_>, letter: char, number: usize) -> Result<bool, ParseError> {
    match cursor.token() {
        Token::Word(word) => match word.strip_prefix(letter) {
            Some(digits) if digits == number.to_string() => {
                cursor.advance();
                cursor.expect('=', "`=`")?;
                Ok(true)
            }
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                Err(cursor.wanted("the next number: they count from 0"))
            }
            Some(_) | None => Ok(false),
        },
        _ => Ok(false),
    }
}

fn view(cursor: &mut Cursor<'_>) -> Result<View, ParseError> {
    let access = read_access(cursor)?;
    cursor.keyword("as", "`as` and the axes of each role")?;
    let start = cursor.start();
    let [batch, planes, rows, columns] = exactly(cursor, "four numbers of axes")?;
    let axes = [batch, planes, rows, columns];
    let count = axes
        .iter()
        .try_fold(0usize, |sum, &axes| sum.checked_add(axes));
    if count != Some(access.shape.len()) {
        return Err(cursor.wanted_at(start, "a role for each axis"));
    }
    let roles = Roles {
        batch,
        planes,
        rows,
        columns,
    };
    Ok(View { access, roles })
}

fn output(cursor: &mut Cursor<'_>) -> Result<OutputViews, ParseError> {
    const WANTED: &str = "the columns as a range such as 0..64";
    cursor.keyword("columns", "`columns`")?;
    let (first_column, end) = range(cursor, WANTED)?;
    let columns = end.checked_sub(first_column);
    let columns = columns.ok_or_else(|| cursor.wanted("columns that end behind their first"))?;
    cursor.expect('{', "`{`")?;
    let (mut planes, mut reads) = (Vec::new(), Vec::new());
    while next_is(cursor, 'n', planes.len())? {
        let (plane, read) = if cursor.skip_word("plane") {
            (Some(whole_number(cursor)?), None)
        } else if cursor.skip_word("computed") {
            (None, None)
        } else {
            (None, Some(view(cursor)?))
        };
        planes.push(plane);
        reads.push(read);
    }
    cursor.keyword("store", "a node or `store`")?;
    let store = view(cursor)?;
    cursor.expect('}', "`}`")?;
    Ok(OutputViews {
        first_column,
        columns,
        planes,
        reads,
        store,
    })
}
