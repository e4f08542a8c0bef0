//! Words of the text forms: what is an identifier, and how other names are quoted.
//!
//! Takes names, returns text that the parsers read back as the same names.

use std::fmt;

use super::dtype::DType;

/// Words that mean something where a symbol may stand.
const RESERVED: [&str; 4] = ["false", "inf", "nan", "true"];

/// Whether `name` is written without quotes: a letter or `_`, then letters, digits, `_` and `.`.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first
        && bytes.all(continues_word)
        && !RESERVED.contains(&name)
        && DType::from_name(name).is_none()
}

/// Writes `text` between two `quote`s, with escapes.
pub(crate) fn write_quoted(out: &mut impl fmt::Write, text: &str, quote: char) -> fmt::Result {
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            _ if c == quote => write!(out, "\\{c}")?,
            _ if c.is_control() => write!(out, "\\u{{{:x}}}", u32::from(c))?,
            _ => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

/// Whether a byte continues an identifier.
pub(crate) fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}
