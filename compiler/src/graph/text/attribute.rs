//! Writes and reads the attributes of operators.
//!
//! Takes and gives plain values; which of them an operator has is the operator's business.

use std::fmt::Write;

use super::cursor::{Cursor, Token};
use super::error::ParseError;
use super::{extent, tensor};
use crate::ops::Attribute;
use crate::value::dtype::DType;
use crate::value::extents::is_bounded;
use crate::value::words::write_quoted;

/// Writes one value.
pub(super) fn write(out: &mut String, attribute: &Attribute, splat_bytes: &mut usize) {
    let _ = match attribute {
        Attribute::Int(value) => write!(out, "{value}"),
        Attribute::Ints(values) => write!(out, "{values:?}"),
        Attribute::Float(value) if value.is_nan() => write!(out, "nan"),
        Attribute::Float(value) => write!(out, "{value:?}"),
        Attribute::Bool(value) => write!(out, "{value}"),
        Attribute::Name(name) => write_quoted(out, name, '"'),
        Attribute::DType(dtype) => write!(out, "{dtype}"),
        Attribute::Dim(dim) => write!(out, "{dim}"),
        Attribute::Dims(dims) => {
            let list: Vec<String> = dims.iter().map(ToString::to_string).collect();
            write!(out, "[{}]", list.join(", "))
        }
        Attribute::Tensor(value) => {
            tensor::write(out, value, splat_bytes);
            Ok(())
        }
    };
}

/// Reads one value. Extents that are all known are read as integers: fields take either.
pub(crate) fn read(
    cursor: &mut Cursor<'_>,
    splat_bytes: &mut usize,
) -> Result<Attribute, ParseError> {
    let start = cursor.start();
    match cursor.token() {
        Token::Text(_) => Ok(Attribute::Name(cursor.string("a name")?)),
        Token::Mark('[') => {
            let dims = extent::list(cursor)?;
            if let Some(values) = dims.iter().map(crate::Dim::known).collect() {
                return Ok(Attribute::Ints(values));
            }
            match is_bounded(&dims) {
                true => Ok(Attribute::Dims(dims)),
                false => Err(cursor.intricate(start)),
            }
        }
        Token::Word(word @ ("true" | "false")) => {
            cursor.advance();
            Ok(Attribute::Bool(word == "true"))
        }
        Token::Word(word) => match DType::from_name(word) {
            Some(dtype) => {
                cursor.advance();
                match cursor.token() {
                    Token::Mark('[') => {
                        tensor::read(cursor, dtype, splat_bytes).map(Attribute::Tensor)
                    }
                    _ => Ok(Attribute::DType(dtype)),
                }
            }
            None => number(cursor),
        },
        _ => number(cursor),
    }
}

/// Reads a number or an extent.
fn number(cursor: &mut Cursor<'_>) -> Result<Attribute, ParseError> {
    let negative = cursor.skip('-');
    let float = match cursor.token() {
        Token::Word("inf") => Some(f64::INFINITY),
        Token::Word("nan") => Some(f64::NAN),
        Token::Number(digits) if digits.contains(['.', 'e', 'E']) && !digits.contains('x') => {
            let value = digits.parse::<f64>();
            Some(value.map_err(|_| cursor.wanted("a number"))?)
        }
        _ => None,
    };
    if let Some(value) = float {
        cursor.advance();
        return Ok(Attribute::Float(if negative { -value } else { value }));
    }
    let dim = extent::signed_extent(cursor, negative)?;
    Ok(match dim.known() {
        Some(value) => Attribute::Int(value),
        None => Attribute::Dim(dim),
    })
}
