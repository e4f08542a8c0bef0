//! The words and marks of the text form, with the place of each.
//!
//! Takes text, gives one token at a time and errors that say where; it knows no grammar.

use std::str::FromStr;

use super::error::{ParseError, ParseFault};
use crate::value::dtype::DType;
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

impl<'a> Token<'a> {
    /// The text of a word.
    pub(crate) fn word(self) -> Option<&'a str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The digits of a number.
    pub(crate) fn number(self) -> Option<&'a str> {
        match self {
            Token::Number(digits) => Some(digits),
            _ => None,
        }
    }

    /// The number of a value: 7 of `%7`.
    pub(crate) fn value(self) -> Option<u32> {
        match self {
            Token::Value(digits) => digits.parse().ok(),
            _ => None,
        }
    }
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
        self.error(at, ParseFault::Syntax { found, wanted })
    }

    /// The error that `fault` is what is wrong at the position `at`.
    pub(crate) fn error(&self, at: usize, fault: impl Into<ParseFault>) -> ParseError {
        let (line, column) = self.place(at);
        let fault = fault.into();
        ParseError {
            line,
            column,
            fault,
        }
    }

    /// The error that the expression which began at `start` is too large.
    pub(crate) fn intricate(&self, start: usize) -> ParseError {
        self.error(start, ParseFault::Intricate)
    }

    /// Goes past the mark `c` if it is here.
    pub(crate) fn skip(&mut self, c: char) -> bool {
        self.skip_token(Token::Mark(c))
    }

    fn skip_token(&mut self, token: Token<'_>) -> bool {
        let here = self.token == token;
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

    /// Skips the current token and returns what `read` makes of it; the error that `wanted` was
    /// wanted, if that is nothing.
    pub(crate) fn read<T>(
        &mut self,
        wanted: &'static str,
        read: impl FnOnce(Token<'a>) -> Option<T>,
    ) -> Result<T, ParseError> {
        let value = read(self.token).ok_or_else(|| self.wanted(wanted))?;
        self.advance();
        Ok(value)
    }

    /// Skips a word and returns it.
    pub(crate) fn word(&mut self, wanted: &'static str) -> Result<&'a str, ParseError> {
        self.read(wanted, Token::word)
    }

    /// Skips a number without a sign and returns it.
    pub(crate) fn number<T: FromStr>(&mut self, wanted: &'static str) -> Result<T, ParseError> {
        self.read(wanted, |token| token.number()?.parse().ok())
    }

    /// Skips an element type and returns it.
    pub(crate) fn dtype(&mut self) -> Result<DType, ParseError> {
        self.read("an element type", |token| DType::from_name(token.word()?))
    }

    /// Skips the word `word` if it is the current token; returns whether it was.
    pub(crate) fn skip_word(&mut self, word: &str) -> bool {
        self.skip_token(Token::Word(word))
    }

    /// Skips the word `word`.
    pub(crate) fn keyword(&mut self, word: &str, wanted: &'static str) -> Result<(), ParseError> {
        match self.skip_word(word) {
            true => Ok(()),
            false => Err(self.wanted(wanted)),
        }
    }

    /// Skips a name: an identifier, or a string.
    pub(crate) fn name(&mut self, wanted: &'static str) -> Result<String, ParseError> {
        match self.token {
            Token::Word(name) => {
                self.advance();
                Ok(name.to_owned())
            }
            _ => self.string(wanted),
        }
    }

    /// Skips items separated by commas, and the mark `close` after them.
    pub(crate) fn list<T>(
        &mut self,
        close: char,
        wanted: &'static str,
        mut item: impl FnMut(&mut Cursor<'a>) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        while !self.skip(close) {
            if !items.is_empty() {
                self.expect(',', wanted)?;
            }
            items.push(item(self)?);
        }
        Ok(items)
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
