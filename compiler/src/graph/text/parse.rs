//! Reads graphs from text; the grammar is in the card of [`super`].
//!
//! Takes text that may be hostile, gives a module whose functions are well typed, or the first
//! place that is wrong. Never repairs anything.

use super::cursor::{Cursor, Token};
use super::error::ParseError;
use super::tensor::SPLAT_BYTES_MAX;
use super::{attribute, extent};
use crate::graph::builder::Builder;
use crate::graph::func::{Func, Module};
use crate::graph::types::{Role, TensorType, Value};
use crate::ops::{Attribute, Op};
use crate::value::dtype::DType;

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
    if cursor.token() != Token::Word("func") {
        return Err(cursor.wanted("`func`"));
    }
    cursor.advance();
    let name = match cursor.token() {
        Token::Word(name) => {
            cursor.advance();
            name.to_owned()
        }
        _ => cursor.string("the name of the function")?,
    };
    let mut builder = Builder::new(&name);
    cursor.expect('{', "`{`")?;
    while let Token::Value(_) = cursor.token() {
        definition(cursor, &mut builder, splat_bytes)?;
    }
    while cursor.token() == Token::Word("return") {
        cursor.advance();
        let start = cursor.start();
        let name = cursor.string("the name of the result")?;
        let value = value(cursor)?;
        let named = builder.result(&name, value);
        named.map_err(|source| cursor.ill_typed(start, source))?;
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
    if value_index(cursor) != u32::try_from(next).ok() {
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
    let value = built.map_err(|source| cursor.ill_typed(start, source))?;
    match written {
        Some(found) if found != *builder.ty(value) => {
            let (line, column) = cursor.place(type_start);
            let wanted = builder.ty(value).clone();
            Err(ParseError::Type {
                line,
                column,
                found,
                wanted,
            })
        }
        Some(_) | None => Ok(()),
    }
}

fn right(cursor: &mut Cursor<'_>, splat_bytes: &mut usize) -> Result<Right, ParseError> {
    let start = cursor.start();
    let Token::Word(word) = cursor.token() else {
        return Err(cursor.wanted("`input`, `weight`, `state` or an operator"));
    };
    cursor.advance();
    let role = match word {
        "input" => Some(Role::Input),
        "weight" => Some(Role::Weight),
        "state" => Some(Role::State),
        _ => None,
    };
    if let Some(role) = role {
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
    let op = Op::parse(name, attributes).ok_or_else(|| {
        let (line, column) = cursor.place(start);
        let name = name.to_owned();
        ParseError::Operator { line, column, name }
    })?;
    op.map_err(|source| {
        let (line, column) = cursor.place(start);
        let op = name.to_owned();
        ParseError::Attributes {
            line,
            column,
            op,
            source,
        }
    })
}

fn operands(cursor: &mut Cursor<'_>) -> Result<Vec<Value>, ParseError> {
    let mut operands = Vec::new();
    cursor.expect('(', "`(`")?;
    while !cursor.skip(')') {
        if !operands.is_empty() {
            cursor.expect(',', "`,` or `)`")?;
        }
        operands.push(value(cursor)?);
    }
    Ok(operands)
}

/// Reads attributes in braces, if there are any.
pub(crate) fn attributes(
    cursor: &mut Cursor<'_>,
    splat_bytes: &mut usize,
) -> Result<Vec<(String, Attribute)>, ParseError> {
    let mut attributes = Vec::new();
    if !cursor.skip('{') {
        return Ok(attributes);
    }
    while !cursor.skip('}') {
        if !attributes.is_empty() {
            cursor.expect(',', "`,` or `}`")?;
        }
        let Token::Word(name) = cursor.token() else {
            return Err(cursor.wanted("the name of an attribute"));
        };
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(cursor.wanted("at most 32 attributes"));
        }
        cursor.advance();
        cursor.expect('=', "`=`")?;
        attributes.push((name.to_owned(), attribute::read(cursor, splat_bytes)?));
    }
    Ok(attributes)
}

fn tensor_type(cursor: &mut Cursor<'_>) -> Result<TensorType, ParseError> {
    let dtype = match cursor.token() {
        Token::Word(word) => DType::from_name(word),
        _ => None,
    };
    let dtype = dtype.ok_or_else(|| cursor.wanted("an element type"))?;
    cursor.advance();
    let shape = extent::shape(cursor)?;
    Ok(TensorType { dtype, shape })
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, ParseError> {
    let index = value_index(cursor).ok_or_else(|| cursor.wanted("a value such as %7"))?;
    cursor.advance();
    Ok(Value(index))
}

fn value_index(cursor: &Cursor<'_>) -> Option<u32> {
    match cursor.token() {
        Token::Value(digits) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphError;
    use crate::graph::text::print;
    use crate::ops::Call;

    #[test]
    fn a_call_has_as_many_operands_as_the_function_has_parameters() {
        let weights = |name: &str| {
            let mut builder = Builder::new(name);
            let mut weight = |number: u32| {
                let ty = TensorType::new(DType::F32, [2]);
                builder.weight(&number.to_string(), ty).expect("a weight")
            };
            let weights: Vec<Value> = (0..3000).map(&mut weight).collect();
            (builder, weights)
        };
        let (mut builder, values) = weights("callee");
        builder.result("r", values[0]).expect("a result");
        let callee = builder.finish();
        let (mut builder, values) = weights("caller");
        let call = Call::of(&callee, 0).expect("the result");
        let result = builder.push(call, &values).expect("a call");
        builder.result("r", result).expect("a result");
        let funcs = vec![callee, builder.finish()];
        let module = Module { funcs };
        assert_eq!(parse(&print(&module)), Ok(module));
    }

    #[test]
    fn the_error_for_too_many_operands_is_short() {
        let operands = vec!["%0"; 100_000].join(", ");
        let text = format!("func f {{\n%0 = input \"x\" : f32[1]\n%1 = abs({operands})\n}}\n");
        let Err(ParseError::Graph { source, .. }) = parse(&text) else {
            panic!("abs takes one operand");
        };
        let GraphError::Constraint { operands, .. } = &source else {
            panic!("found {source}");
        };
        assert!(operands.len() < 100, "{} types", operands.len());
    }
}
