//! The text form of graphs: complete, so that printing, parsing and printing again is identity.
//!
//! Takes a [`Module`](crate::graph::Module) and gives text, and back. Artifacts store graphs in
//! it, so the parser takes hostile input: it neither panics, nor recurses deeper than a limit,
//! nor allocates more than a multiple of the text. What it reads is built by
//! [`Builder`](crate::graph::Builder) and so is well typed; the rest is for [`crate::verify`].
//!
//! ```text
//! module  = func*
//! func    = "func" name "{" value* return* "}"
//! value   = "%"N "=" ("input" | "weight") string ":" type ["@" origin]
//!         | "%"N "=" op "(" "%"M, … ")" ["{" name "=" attribute, … "}"] [":" type] ["@" origin]
//! return  = "return" string "%"N
//! type    = dtype "[" extent, … "]"
//! extent  = ["-"] term (("+" | "-") term)*      term = factor ("*" factor)*
//! factor  = (integer | symbol | "(" extent ")") ("/" integer)*
//! tensor  = type ("[" element, … "]" | "splat" element | "hex" string)
//! ```
//! Values count from 0 in order. A type that is written must be the inferred one. Symbols and
//! names that are no identifiers are quoted; `#` begins a comment.

use std::fmt;

pub(crate) mod attribute;
pub(crate) mod cursor;
mod extent;
mod parse;
mod print;
pub(crate) mod tensor;

pub use parse::{ParseError, parse};
pub use print::{print, print_func};
pub(crate) use print::{print_op, print_tensor};

/// Splats of one text may make this many bytes of tensors: beyond, the printer writes all bytes.
const SPLAT_BYTES_MAX: usize = 256 << 20;

/// Words that mean something where a symbol may stand.
const RESERVED: [&str; 4] = ["false", "inf", "nan", "true"];

/// Whether `name` is written without quotes: a letter or `_`, then letters, digits, `_` and `.`.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first
        && bytes.all(cursor::continues_word)
        && !RESERVED.contains(&name)
        && crate::DType::from_name(name).is_none()
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
