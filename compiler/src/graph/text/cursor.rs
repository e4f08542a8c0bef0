//! The words and marks of the text form, with the place of each.
//!
//! Takes text, gives one token at a time and errors that say where; it knows no grammar.

use super::error::ParseError;
use crate::graph::builder::GraphError;
use crate::value::words::continues_word;

/// One token; the text of words and numbers as written, that of strings without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier.
    Word(&'a str),
    /// Digits, perhaps with a fraction and an exponent.
    Number(&'a str),
    /// A string between `"`, still with its escapes.
    Text(&'a str),
    /// A symbol between backquotes, still with its escapes.
    Quoted(&'a str),
    /// `%7`.
    Value(&'a str),
    /// Any other character.
    Mark(char),
    /// The end of the text.
    End,
}

/// A place in the text, at a token.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    token: Token<'a>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Cursor<'a> {
        let mut cursor = Cursor {
            text,
            start: 0,
            end: 0,
            token: Token::End,
        };
        cursor.advance();
        cursor
    }

    /// The token here.
    pub(crate) fn token(&self) -> Token<'a> {
        self.token
    }

    /// Where the token here begins; see [`Cursor::place`].
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Line and column of a position, from 1, in characters.
    pub(crate) fn place(&self, position: usize) -> (usize, usize) {
        let before = &self.text[..position];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The error that something else was wanted here.
    pub(crate) fn wanted(&self, wanted: &'static str) -> ParseError {
        let found = match self.token {
            Token::End => "the end".to_owned(),
            _ => excerpt(&self.text[self.start..self.end]),
        };
        self.syntax(self.start, found, wanted)
    }

    /// The error that something else was wanted than what stands from `start` to here.
    pub(crate) fn wanted_at(&self, start: usize, wanted: &'static str) -> ParseError {
        let found = excerpt(self.text[start..self.start].trim_end());
        self.syntax(start, found, wanted)
    }

    fn syntax(&self, at: usize, found: String, wanted: &'static str) -> ParseError {
        let (line, column) = self.place(at);
        ParseError::Syntax {
            line,
            column,
            found,
            wanted,
        }
    }

    /// The error that the expression which began at `start` is too large.
    pub(crate) fn intricate(&self, start: usize) -> ParseError {
        let (line, column) = self.place(start);
        ParseError::Intricate { line, column }
    }

    /// The error that the graph written at `start` cannot be built.
    pub(crate) fn ill_typed(&self, start: usize, source: GraphError) -> ParseError {
        let (line, column) = self.place(start);
        ParseError::Graph {
            line,
            column,
            source,
        }
    }

    /// Goes past the mark `c` if it is here.
    pub(crate) fn skip(&mut self, c: char) -> bool {
        let here = self.token == Token::Mark(c);
        if here {
            self.advance();
        }
        here
    }

    /// Goes past the mark `c`.
    pub(crate) fn expect(&mut self, c: char, wanted: &'static str) -> Result<(), ParseError> {
        match self.skip(c) {
            true => Ok(()),
            false => Err(self.wanted(wanted)),
        }
    }

    /// Goes past a string; gives what it says.
    pub(crate) fn string(&mut self, wanted: &'static str) -> Result<String, ParseError> {
        match self.token {
            Token::Text(raw) => self.unescape(raw, wanted),
            _ => Err(self.wanted(wanted)),
        }
    }

    /// Goes past a quoted token whose text is `raw`; gives what it says.
    pub(crate) fn unescape(
        &mut self,
        raw: &str,
        wanted: &'static str,
    ) -> Result<String, ParseError> {
        let mut plain = String::with_capacity(raw.len());
        let mut rest = raw.chars();
        while let Some(c) = rest.next() {
            let said = match c {
                '\\' => match rest.next() {
                    Some('n') => Some('\n'),
                    Some('t') => Some('\t'),
                    Some('u') => code_point(&mut rest),
                    Some(quote @ ('\\' | '"' | '`')) => Some(quote),
                    Some(_) | None => None,
                },
                _ => Some(c),
            };
            plain.push(said.ok_or_else(|| self.wanted(wanted))?);
        }
        self.advance();
        Ok(plain)
    }

    /// Goes to the next token.
    pub(crate) fn advance(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = self.end;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                b'#' => at = find(bytes, at, |b| b == b'\n'),
                _ => break,
            }
        }
        self.start = at;
        let word = |from: usize| find(bytes, from, |b| !continues_word(b));
        (self.token, self.end) = match bytes.get(at) {
            None => (Token::End, at),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                let end = word(at);
                (Token::Word(&self.text[at..end]), end)
            }
            Some(b'0'..=b'9') => {
                let end = number_end(bytes, at);
                (Token::Number(&self.text[at..end]), end)
            }
            Some(b'%') => {
                let end = find(bytes, at + 1, |b| !b.is_ascii_digit());
                (Token::Value(&self.text[at + 1..end]), end)
            }
            Some(&quote @ (b'"' | b'`')) => match closing(bytes, at) {
                Some(end) if quote == b'"' => (Token::Text(&self.text[at + 1..end]), end + 1),
                Some(end) => (Token::Quoted(&self.text[at + 1..end]), end + 1),
                None => (Token::Mark(char::from(quote)), at + 1),
            },
            Some(_) => {
                let c = self.text[at..].chars().next().unwrap_or(' ');
                (Token::Mark(c), at + c.len_utf8())
            }
        };
    }
}

/// The beginning of a text, in quotes.
fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("{short:?}")
}

/// The first position from `from` on where `stop` holds, or the end.
fn find(bytes: &[u8], from: usize, stop: impl Fn(u8) -> bool) -> usize {
    let length = bytes[from..].iter().position(|&b| stop(b));
    length.map_or(bytes.len(), |length| from + length)
}

/// The end of a number: `12`, `1.5e-3`, `0x7fc0`.
fn number_end(bytes: &[u8], from: usize) -> usize {
    let end = find(bytes, from, |b| !continues_word(b));
    let exponent = matches!(bytes[end - 1], b'e' | b'E') && !bytes[from..].starts_with(b"0x");
    match bytes.get(end) {
        Some(b'-' | b'+') if exponent => find(bytes, end + 1, |b| !b.is_ascii_digit()),
        Some(_) | None => end,
    }
}

/// The position of the quote that closes the one at `open`.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            byte if byte == bytes[open] => return Some(at),
            _ => at += 1,
        }
    }
}

/// Reads `{1f}` after `\u`.
fn code_point(rest: &mut std::str::Chars<'_>) -> Option<char> {
    let tail = rest.as_str().strip_prefix('{')?;
    let (digits, after) = tail.split_once('}')?;
    *rest = after.chars();
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}
