//! Reads graphs from text; the grammar is in the card of [`super`].
//!
//! Takes text that may be hostile, gives a module whose functions are well typed, or the first
//! place that is wrong. Never repairs anything.

use super::cursor::{Cursor, Token};
use super::error::{ParseError, ParseFault};
use super::tensor::SPLAT_BYTES_MAX;
use super::{attribute, extent};
use crate::graph::builder::Builder;
use crate::graph::func::{Func, Module};
use crate::graph::types::{Role, TensorType, Value};
use crate::ops::{Attribute, Op};

/// No operator has more attributes than this.
const ATTRIBUTES_MAX: usize = 32;

/// Reads a module.
///
/// # Errors
/// The first place where the text leaves the grammar or the graph is ill typed.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut cursor = Cursor::new(text);
    let mut splat_bytes = SPLAT_BYTES_MAX;
    let mut module = Module::default();
    while cursor.token() != Token::End {
        module.funcs.push(func(&mut cursor, &mut splat_bytes)?);
    }
    Ok(module)
}

fn func(cursor: &mut Cursor<'_>, splat_bytes: &mut usize) -> Result<Func, ParseError> {
    cursor.keyword("func", "`func`")?;
    let name = cursor.name("the name of the function")?;
    let mut builder = Builder::new(&name);
    cursor.expect('{', "`{`")?;
    while let Token::Value(_) = cursor.token() {
        definition(cursor, &mut builder, splat_bytes)?;
    }
    while cursor.skip_word("return") {
        let start = cursor.start();
        let name = cursor.string("the name of the result")?;
        let value = value(cursor)?;
        let named = builder.result(&name, value);
        named.map_err(|source| cursor.error(start, source))?;
    }
    cursor.expect('}', "a value, `return` or `}`")?;
    Ok(builder.finish())
}

/// What stands right of `=`, before its type and origin are known.
enum Right {
    Param(Role, String),
    Node(Op, Vec<Value>),
}

fn definition(
    cursor: &mut Cursor<'_>,
    builder: &mut Builder,
    splat_bytes: &mut usize,
) -> Result<(), ParseError> {
    let next = builder.func().values().len();
    if cursor.token().value() != u32::try_from(next).ok() {
        return Err(cursor.wanted("the next value: they count from %0"));
    }
    cursor.advance();
    cursor.expect('=', "`=`")?;
    let start = cursor.start();
    let right = right(cursor, splat_bytes)?;
    let type_start = cursor.start();
    let written = match (cursor.skip(':'), &right) {
        (true, _) => Some(tensor_type(cursor)?),
        (false, Right::Node(..)) => None,
        (false, Right::Param(..)) => return Err(cursor.wanted("`:` and the parameter's type")),
    };
    let origin = match cursor.skip('@') {
        true => cursor.string("the origin in quotes")?,
        false => String::new(),
    };
    builder.at(&origin);
    let built = match (right, &written) {
        (Right::Param(role, name), Some(ty)) => builder.param(&name, role, ty.clone()),
        (Right::Param(..), None) => return Err(cursor.wanted("`:` and the parameter's type")),
        (Right::Node(op, operands), _) => builder.push(op, &operands),
    };
    let value = built.map_err(|source| cursor.error(start, source))?;
    match written {
        Some(found) if found != *builder.ty(value) => {
            let wanted = builder.ty(value).clone();
            Err(cursor.error(type_start, ParseFault::Type { found, wanted }))
        }
        Some(_) | None => Ok(()),
    }
}

fn right(cursor: &mut Cursor<'_>, splat_bytes: &mut usize) -> Result<Right, ParseError> {
    let start = cursor.start();
    let word = cursor.word("`input`, `weight`, `state` or an operator")?;
    if let Some(role) = Role::from_word(word) {
        return Ok(Right::Param(role, cursor.string("the parameter's name")?));
    }
    let operands = operands(cursor)?;
    let attributes = attributes(cursor, splat_bytes)?;
    Ok(Right::Node(op(cursor, start, word, &attributes)?, operands))
}

/// The operator `name` with these attributes, which were read from `start` on.
pub(crate) fn op(
    cursor: &Cursor<'_>,
    start: usize,
    name: &str,
    attributes: &[(String, Attribute)],
) -> Result<Op, ParseError> {
    let name = name.to_owned();
    match Op::parse(&name, attributes) {
        None => Err(cursor.error(start, ParseFault::Operator { name })),
        Some(op) => op.map_err(|source| {
            let op = name;
            cursor.error(start, ParseFault::Attributes { op, source })
        }),
    }
}

fn operands(cursor: &mut Cursor<'_>) -> Result<Vec<Value>, ParseError> {
    cursor.expect('(', "`(`")?;
    cursor.list(')', "`,` or `)`", value)
}

/// Reads attributes in braces, if there are any.
pub(crate) fn attributes(
    cursor: &mut Cursor<'_>,
    splat_bytes: &mut usize,
) -> Result<Vec<(String, Attribute)>, ParseError> {
    if !cursor.skip('{') {
        return Ok(Vec::new());
    }
    let start = cursor.start();
    let attributes = cursor.list('}', "`,` or `}`", |cursor| {
        let name = cursor.word("the name of an attribute")?.to_owned();
        cursor.expect('=', "`=`")?;
        Ok((name, attribute::read(cursor, splat_bytes)?))
    })?;
    match attributes.len() <= ATTRIBUTES_MAX {
        true => Ok(attributes),
        false => Err(cursor.wanted_at(start, "at most 32 attributes")),
    }
}

fn tensor_type(cursor: &mut Cursor<'_>) -> Result<TensorType, ParseError> {
    let dtype = cursor.dtype()?;
    let shape = extent::shape(cursor)?;
    Ok(TensorType { dtype, shape })
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, ParseError> {
    cursor.read("a value such as %7", |token| token.value().map(Value))
}
