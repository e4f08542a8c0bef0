//! Writes graphs as text; the grammar is in the card of [`super`].
//!
//! Takes functions, gives all that they are; it decides nothing but spaces.

use std::fmt::Write;

use super::tensor::SPLAT_BYTES_MAX;
use super::{attribute, tensor};
use crate::graph::func::{Definition, Func, Module, Node};
use crate::ops::Op;
use crate::value::tensor::Tensor;
use crate::value::words::{is_identifier, write_quoted};

/// The text of all functions of a module, in order.
pub fn print(module: &Module) -> String {
    let mut splat_bytes = SPLAT_BYTES_MAX;
    let mut out = String::new();
    for (index, func) in module.funcs.iter().enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        write_func(&mut out, func, &mut splat_bytes);
    }
    out
}

/// The text of one function.
pub fn print_func(func: &Func) -> String {
    let mut out = String::new();
    write_func(&mut out, func, &mut { SPLAT_BYTES_MAX });
    out
}

/// The text of an operator and its attributes: equal for equal operators.
pub(crate) fn print_op(op: &Op) -> String {
    let mut out = op.name().to_owned();
    write_attributes(&mut out, op, &mut { SPLAT_BYTES_MAX });
    out
}

/// The text of a tensor.
pub(crate) fn print_tensor(tensor: &Tensor) -> String {
    let mut out = String::new();
    tensor::write(&mut out, tensor, &mut { SPLAT_BYTES_MAX });
    out
}

fn write_func(out: &mut String, func: &Func, splat_bytes: &mut usize) {
    out.push_str("func ");
    match is_identifier(func.name()) {
        true => out.push_str(func.name()),
        false => quote(out, func.name()),
    }
    out.push_str(" {\n");
    for (value, data) in func.values() {
        let _ = write!(out, "  {value} = ");
        match &data.definition {
            Definition::Param(param) => {
                let _ = write!(out, "{} ", param.role);
                quote(out, &param.name);
            }
            Definition::Node(node) => write_node(out, node, splat_bytes),
        }
        let _ = write!(out, " : {}", data.ty);
        if !data.origin.is_empty() {
            out.push_str(" @ ");
            quote(out, &data.origin);
        }
        out.push('\n');
    }
    for (name, value) in func.results() {
        out.push_str("  return ");
        quote(out, name);
        let _ = writeln!(out, " {value}");
    }
    out.push_str("}\n");
}

fn write_node(out: &mut String, node: &Node, splat_bytes: &mut usize) {
    let _ = write!(out, "{}(", node.op.name());
    for (position, operand) in node.operands.iter().enumerate() {
        let separator = if position > 0 { ", " } else { "" };
        let _ = write!(out, "{separator}{operand}");
    }
    out.push(')');
    write_attributes(out, &node.op, splat_bytes);
}

fn write_attributes(out: &mut String, op: &Op, splat_bytes: &mut usize) {
    let attributes = op.attributes();
    for (position, (name, value)) in attributes.iter().enumerate() {
        let separator = if position > 0 { ", " } else { " {" };
        let _ = write!(out, "{separator}{name} = ");
        attribute::write(out, value, splat_bytes);
    }
    out.push_str(if attributes.is_empty() { "" } else { "}" });
}

fn quote(out: &mut String, text: &str) {
    let _ = write_quoted(out, text, '"');
}
