//! Hoisting: what stays the same from call to call is computed once, before the first.
//!
//! Takes a function of known sizes and the names of inputs that stay, gives a prologue that
//! computes what depends on nothing else and costs something, and a body that takes the results
//! as inputs. Called once with the text and once with the timestep it leaves the denoising step
//! without the projections of either. Both together compute the same, bit for bit. It decides by
//! counting, never by measuring.

use std::collections::BTreeSet;

use crate::graph::{Builder, Definition, Func, Node, Role, Value};
use crate::ops::Class;

/// To read an element again costs a kernel about as much as so many operations: embeddings of
/// positions and masks cost fewer, projections hundreds.
const FLOPS_SAVED_MIN: u64 = 16;

/// A function in two parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Hoisted {
    /// Computes what stays the same. Its inputs are the stable ones that it needs; its results have
    /// the names of the body's inputs that take them.
    pub prologue: Func,
    /// Computes the results of the whole. Its inputs are those of the whole, less stable ones that
    /// only the prologue needs, and the prologue's results.
    pub body: Func,
}

/// Splits off what depends on nothing but the inputs `stable`, weights and constants. What the body
/// takes over is called after the first of these inputs: `timestep.0`, `timestep.1`.
///
/// A value is hoisted when that saves at least 16 operations for each of its elements. Movements
/// stay in the body, where access maps take them, and so do pointwise operators whose result is
/// larger than what they read: that is hoisted in their place, if anything.
///
/// `None` when nothing is worth it, or a size is not known.
pub fn hoist(func: &Func, stable: &[&str]) -> Option<Hoisted> {
    let first = stable.first()?;
    let cut = Cut::of(func, stable);
    let names = cut.names(func, first);
    let hoisted: Vec<(&str, Value)> = func
        .values()
        .zip(&names)
        .filter_map(|((value, _), name)| Some((name.as_deref()?, value)))
        .collect();
    if hoisted.is_empty() {
        return None;
    }
    let mut needed: Vec<bool> = names.iter().map(Option::is_some).collect();
    for index in (0..needed.len()).rev().map(|index| index as u32) {
        if let (Some(node), true) = (func.node(Value(index)), needed[index as usize]) {
            node.operands
                .iter()
                .for_each(|v| needed[v.0 as usize] = true);
        }
    }
    let prologue = format!("{}.{first}", func.name());
    let copied = |value: Value| needed[value.0 as usize].then_some(Source::Copy);
    let prologue = part(func, &prologue, copied, &hoisted);
    let given = |value: Value| match &names[value.0 as usize] {
        Some(name) => Some(Source::Input(name)),
        None => cut.body[value.0 as usize].then_some(Source::Copy),
    };
    let results = func.results().iter();
    let results: Vec<(&str, Value)> = results.map(|(name, v)| (name.as_str(), *v)).collect();
    let body = part(func, func.name(), given, &results);
    Some(Hoisted { prologue, body })
}

/// What is computed where.
struct Cut {
    /// Of each value, whether the body takes it over.
    hoisted: Vec<bool>,
    /// Of each value, whether the body has a value of its own for it.
    body: Vec<bool>,
}

impl Cut {
    fn of(func: &Func, stable: &[&str]) -> Cut {
        let fixed = fixed(func, stable);
        let count = fixed.len();
        let mut wanted = vec![false; count];
        let (mut hoisted, mut body) = (vec![false; count], vec![false; count]);
        for (_, value) in func.results() {
            wanted[value.0 as usize] = true;
        }
        // Whoever uses a value comes after it.
        for index in (0..count).rev() {
            let value = Value(index as u32);
            match &func.value(value).definition {
                Definition::Param(param) => {
                    let varies = param.role != Role::Weight && !fixed[index];
                    body[index] = wanted[index] || varies;
                }
                Definition::Node(_) if !wanted[index] => {}
                Definition::Node(node) if fixed[index] && saves(func, value, node) => {
                    hoisted[index] = true;
                }
                Definition::Node(node) => {
                    body[index] = true;
                    node.operands
                        .iter()
                        .for_each(|v| wanted[v.0 as usize] = true);
                }
            }
        }
        Cut { hoisted, body }
    }

    /// The names of what the body takes over; no input has one of them.
    fn names(&self, func: &Func, first: &str) -> Vec<Option<String>> {
        let taken: BTreeSet<&str> = func.params(Role::Input).map(|(_, name, _)| name).collect();
        let mut free = (0u32..)
            .map(|number| format!("{first}.{number}"))
            .filter(|name| !taken.contains(name.as_str()));
        let hoisted = self.hoisted.iter();
        hoisted
            .map(|&hoisted| if hoisted { free.next() } else { None })
            .collect()
    }
}

/// Of each value, whether it depends on nothing but the inputs `stable`, weights and constants.
fn fixed(func: &Func, stable: &[&str]) -> Vec<bool> {
    let mut fixed: Vec<bool> = Vec::with_capacity(func.values().len());
    for (_, data) in func.values() {
        fixed.push(match &data.definition {
            Definition::Param(param) => {
                let is_stable = || stable.contains(&param.name.as_str());
                param.role == Role::Weight || (param.role == Role::Input && is_stable())
            }
            Definition::Node(node) => node.operands.iter().all(|v| fixed[v.0 as usize]),
        });
    }
    fixed
}

/// Whether a value is better read than computed anew.
fn saves(func: &Func, value: Value, node: &Node) -> bool {
    let Some(size) = elements(func, value) else {
        return false;
    };
    let grows = || {
        let read: BTreeSet<Value> = node.operands.iter().map(|&v| source(func, v)).collect();
        let read = read.into_iter().map(|v| elements(func, v).unwrap_or(0));
        size > read.fold(0, u64::saturating_add)
    };
    match node.op.class() {
        Class::Movement => false,
        Class::Pointwise if grows() => false,
        Class::Pointwise
        | Class::Gemm
        | Class::Conv
        | Class::Attention
        | Class::Row
        | Class::Gather
        | Class::Plain => costs(func, value, size.saturating_mul(FLOPS_SAVED_MIN)),
    }
}

/// What a value is, its elements moved or repeated.
fn source(func: &Func, mut value: Value) -> Value {
    while let Some(node) = func.node(value)
        && node.op.class() == Class::Movement
        && let [operand, ..] = node.operands.as_slice()
        && elements(func, *operand) <= elements(func, value)
    {
        value = *operand;
    }
    value
}

/// Whether a value and all that it depends on take as many operations, and any at all.
fn costs(func: &Func, value: Value, flops_min: u64) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([value]), vec![value]);
    let mut flops = 0u64;
    while let Some(value) = next.pop() {
        let Some(node) = func.node(value) else {
            continue;
        };
        let types: Vec<_> = node.operands.iter().map(|&v| func.ty(v).clone()).collect();
        let own = node.op.flops(&types, func.ty(value)).counted();
        flops = flops.saturating_add(own);
        if flops > 0 && flops >= flops_min {
            return true;
        }
        next.extend(node.operands.iter().filter(|v| seen.insert(**v)));
    }
    false
}

fn elements(func: &Func, value: Value) -> Option<u64> {
    let elements = func.ty(value).elements().known()?;
    u64::try_from(elements).ok()
}

/// How a part of a function has a value.
enum Source<'a> {
    /// As the whole has it.
    Copy,
    /// Under this name, as an input.
    Input(&'a str),
}

/// The function of those values that have a source.
fn part<'a>(
    func: &Func,
    name: &str,
    source: impl Fn(Value) -> Option<Source<'a>>,
    results: &[(&str, Value)],
) -> Func {
    const WHY: &str = "a part of a function is typed and named as the whole";
    let mut builder = Builder::new(name);
    let mut renamed: Vec<Option<Value>> = Vec::with_capacity(func.values().len());
    let new = |renamed: &[Option<Value>], value: Value| {
        renamed[value.0 as usize].expect("what a value depends on has a source")
    };
    for (value, data) in func.values() {
        builder.at(&data.origin);
        let built = source(value).map(|source| match (source, &data.definition) {
            (Source::Input(name), _) => builder.input(name, data.ty.clone()),
            (Source::Copy, Definition::Param(param)) => {
                builder.param(&param.name, param.role, data.ty.clone())
            }
            (Source::Copy, Definition::Node(node)) => {
                let operands = node.operands.iter().map(|&v| new(&renamed, v));
                builder.push(node.op.clone(), &operands.collect::<Vec<_>>())
            }
        });
        renamed.push(built.map(|built| built.expect(WHY)));
    }
    for (name, value) in results {
        builder.result(name, new(&renamed, *value)).expect(WHY);
    }
    builder.finish()
}
