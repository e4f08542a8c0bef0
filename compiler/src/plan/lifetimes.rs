//! When the values of a function live, and what memory they may share.
//!
//! Takes a bound function, gives a lifetime for each value that a run needs memory for, or for each
//! weight. Weights, constants and their reshapes outlive a run and are not among the former.

use crate::eval::last_uses;
use crate::graph::{Definition, Func, Node, Role, TensorType, Value};
use crate::ops::Op;

use super::{END, Lifetime};

/// The lifetimes of inputs, which are given before the run begins, and of nodes, ordered by value.
///
/// A reshape is its operand in another shape. The result of a pointwise operator may overwrite an
/// operand of as many elements and bytes.
///
/// # Panics
/// When a size is not known: programs are bound.
pub fn lifetimes(func: &Func) -> Vec<Lifetime> {
    let last = last_uses(func);
    let mut fixed = vec![false; last.len()];
    let mut lifetimes = Vec::new();
    for (value, data) in func.values() {
        let index = value.0 as usize;
        let (birth, kind, alias, overwrites) = match &data.definition {
            Definition::Param(param) => {
                fixed[index] = param.role == Role::Weight;
                (0, "input", None, Vec::new())
            }
            Definition::Node(node) => {
                let alias = match node.op {
                    Op::Reshape(_) => Some(node.operands[0]),
                    _ => None,
                };
                fixed[index] = match alias {
                    Some(operand) => fixed[operand.0 as usize],
                    None => node.operands.is_empty(),
                };
                let dying = overwritable(func, node, &data.ty)
                    .into_iter()
                    .filter(|operand| !fixed[operand.0 as usize]);
                (value.0, node.op.name(), alias, dying.collect())
            }
        };
        if !fixed[index] {
            lifetimes.push(Lifetime {
                value,
                origin: origin(kind, &data.origin),
                bytes: bytes(&data.ty),
                birth,
                death: last[index],
                alias,
                overwrites,
            });
        }
    }
    lifetimes
}

/// The lifetimes of a function's weights, all of which outlive a run, in the types that the
/// function declares.
///
/// # Panics
/// When a size is not known: programs are bound.
pub fn weights(func: &Func) -> Vec<Lifetime> {
    let weights = func.params(Role::Weight);
    let lifetime = |(value, name, ty): (Value, &str, &TensorType)| Lifetime {
        value,
        origin: origin("weight", name),
        bytes: bytes(ty),
        birth: 0,
        death: END,
        alias: None,
        overwrites: Vec::new(),
    };
    weights.map(lifetime).collect()
}

/// The operands whose memory the result may take: element for element they lie at the same bytes.
fn overwritable(func: &Func, node: &Node, result: &TensorType) -> Vec<Value> {
    if !node.op.is_pointwise() {
        return Vec::new();
    }
    let operands = node.operands.iter().copied();
    let fits = |operand: &Value| {
        let ty = func.ty(*operand);
        ty.dtype.bytes() == result.dtype.bytes() && ty.elements() == result.elements()
    };
    operands.filter(fits).collect()
}

fn origin(kind: &str, place: &str) -> String {
    match place {
        "" => kind.to_owned(),
        place => format!("{kind} {place}"),
    }
}

fn bytes(ty: &TensorType) -> u64 {
    let elements = ty
        .elements()
        .extent()
        .expect("sizes of a program are known");
    elements as u64 * ty.dtype.bytes() as u64
}
