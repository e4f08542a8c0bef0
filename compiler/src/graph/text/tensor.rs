//! Writes and reads tensors: few elements as numbers, many as hexadecimal bytes, equal ones once.
//!
//! Takes and gives every bit of every element type, also those of NaNs and negative zeros.

use std::fmt::Write;

use bytes::Bytes;
use half::{bf16, f16};

use super::cursor::{Cursor, Token};
use super::error::ParseError;
use super::extent;
use crate::graph::types::TensorType;
use crate::value::dtype::DType;
use crate::value::tensor::Tensor;

/// Splats of one text may make this many bytes of tensors: beyond, the printer writes all bytes.
pub(crate) const SPLAT_BYTES_MAX: usize = 256 << 20;

/// More elements than this are written as bytes.
const ELEMENTS_AS_NUMBERS_MAX: usize = 16;

/// Writes `tensor`; `splat_bytes` counts down what splats may still make.
pub(super) fn write(out: &mut String, tensor: &Tensor, splat_bytes: &mut usize) {
    let _ = write!(out, "{} ", TensorType::of(tensor));
    let (dtype, bytes) = (tensor.dtype(), &tensor.bytes()[..]);
    let width = dtype.bytes();
    let equal = tensor.elements() > 1 && bytes[width..] == bytes[..bytes.len() - width];
    if let (true, Some(rest)) = (equal, splat_bytes.checked_sub(bytes.len())) {
        *splat_bytes = rest;
        out.push_str("splat ");
        return write_element(out, dtype, &bytes[..width]);
    }
    if tensor.elements() <= ELEMENTS_AS_NUMBERS_MAX {
        out.push('[');
        for (index, element) in bytes.chunks_exact(width).enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            write_element(out, dtype, element);
        }
        return out.push(']');
    }
    out.push_str("hex \"");
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    out.push('"');
}

/// Reads a tensor whose element type has just been read; `splat_bytes` as in [`write`].
pub(crate) fn read(
    cursor: &mut Cursor<'_>,
    dtype: DType,
    splat_bytes: &mut usize,
) -> Result<Tensor, ParseError> {
    let start = cursor.start();
    let dims = extent::shape(cursor)?;
    let shape: Option<Vec<usize>> = dims.iter().map(crate::Dim::extent).collect();
    let shape = shape.ok_or_else(|| cursor.wanted("a shape of known sizes before the elements"))?;
    let bytes = match cursor.token() {
        Token::Mark('[') => numbers(cursor, dtype)?,
        Token::Word("hex") => hex(cursor)?,
        Token::Word("splat") => splat(cursor, dtype, &shape, splat_bytes)?,
        _ => return Err(cursor.wanted("elements: `[`, `splat` or `hex`")),
    };
    let tensor = Tensor::new(dtype, shape, Bytes::from(bytes));
    tensor.map_err(|source| cursor.error(start, source))
}

fn numbers(cursor: &mut Cursor<'_>, dtype: DType) -> Result<Vec<u8>, ParseError> {
    cursor.expect('[', "`[`")?;
    let elements = cursor.list(']', "`,` or `]`", |cursor| read_element(cursor, dtype))?;
    Ok(elements.concat())
}

fn hex(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, ParseError> {
    cursor.advance();
    let wanted = "pairs of hexadecimal digits in quotes";
    cursor.read(wanted, |token| match token {
        Token::Text(digits) => decode_hex(digits),
        _ => None,
    })
}

fn splat(
    cursor: &mut Cursor<'_>,
    dtype: DType,
    shape: &[usize],
    splat_bytes: &mut usize,
) -> Result<Vec<u8>, ParseError> {
    let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    let length = count.and_then(|count| count.checked_mul(dtype.bytes()));
    let rest = length.and_then(|length| splat_bytes.checked_sub(length));
    *splat_bytes = rest.ok_or_else(|| cursor.wanted("splats of at most 256 MiB in all"))?;
    cursor.advance();
    let element = read_element(cursor, dtype)?;
    Ok(element.repeat(count.unwrap_or(0)))
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// Writes one element: shortest decimal that reads back to the same bits, or else the bits.
fn write_element(out: &mut String, dtype: DType, bytes: &[u8]) {
    let mut little = [0; 8];
    little[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(little);
    let narrow = |value: f32| match value.is_nan() {
        true => None,
        false => Some(format!("{value:?}")),
    };
    let decimal = match dtype {
        DType::Bool => ["false", "true"]
            .get(bits as usize)
            .map(|word| (*word).to_owned()),
        DType::U8 => Some(bits.to_string()),
        DType::I8 => Some((bits as i8).to_string()),
        DType::I32 => Some((bits as i32).to_string()),
        DType::I64 => Some(bits.cast_signed().to_string()),
        DType::F16 => narrow(f16::from_bits(bits as u16).to_f32()),
        DType::BF16 => narrow(bf16::from_bits(bits as u16).to_f32()),
        DType::F32 => narrow(f32::from_bits(bits as u32)),
        DType::F64 => Some(f64::from_bits(bits))
            .filter(|value| !value.is_nan())
            .map(|value| format!("{value:?}")),
    };
    let _ = match decimal {
        Some(decimal) => write!(out, "{decimal}"),
        None if bits == canonical_nan(dtype) => write!(out, "nan"),
        None => write!(out, "0x{bits:x}"),
    };
}

/// The bits of the quiet NaN without a sign or a payload.
fn canonical_nan(dtype: DType) -> u64 {
    match dtype {
        DType::F16 => 0x7e00,
        DType::BF16 => 0x7fc0,
        DType::F32 => 0x7fc0_0000,
        DType::F64 => 0x7ff8_0000_0000_0000,
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => u64::MAX,
    }
}

/// Reads one element; gives its bytes.
fn read_element(cursor: &mut Cursor<'_>, dtype: DType) -> Result<Vec<u8>, ParseError> {
    let sign = if cursor.skip('-') { "-" } else { "" };
    let bits = cursor.read("an element of the tensor's type", |token| match token {
        Token::Number(digits) => match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16)
                .ok()
                .filter(|bits| bits.leading_zeros() as usize >= 64 - 8 * dtype.bytes()),
            None => from_decimal(dtype, &format!("{sign}{digits}")),
        },
        Token::Word("inf") => from_decimal(dtype, &format!("{sign}inf")),
        Token::Word("nan") if dtype.is_float() => Some(canonical_nan(dtype)),
        Token::Word("true") if dtype == DType::Bool => Some(1),
        Token::Word("false") if dtype == DType::Bool => Some(0),
        _ => None,
    })?;
    Ok(bits.to_le_bytes()[..dtype.bytes()].to_vec())
}

/// The bits of a number in decimal, if the type has it.
fn from_decimal(dtype: DType, text: &str) -> Option<u64> {
    let single = || text.parse::<f32>().ok();
    let int = || text.parse::<i64>().ok();
    match dtype {
        DType::Bool => None,
        DType::U8 => text.parse::<u8>().ok().map(u64::from),
        DType::I8 => i8::try_from(int()?).ok().map(|v| v.cast_unsigned().into()),
        DType::I32 => i32::try_from(int()?).ok().map(|v| v.cast_unsigned().into()),
        DType::I64 => int().map(i64::cast_unsigned),
        DType::F16 => single().map(|v| f16::from_f32(v).to_bits().into()),
        DType::BF16 => single().map(|v| bf16::from_f32(v).to_bits().into()),
        DType::F32 => single().map(|v| v.to_bits().into()),
        DType::F64 => text.parse::<f64>().ok().map(f64::to_bits),
    }
}
