//! What operators give when their operands are known at import: constants, and sizes as
//! expressions of symbols.
//!
//! Takes an operator of the graph IR with the contents of all of its operands, gives the contents
//! of its result, or nothing where they are not known. Constants go through the operator's own
//! `eval`; so do expressions that are only moved (their positions are evaluated). It never grows:
//! results above [`ELEMENTS_MAX`] elements and expressions above [`EXPRESSION_MAX`] stay unknown.

use compiler::DType;
use compiler::graph::TensorType;
use compiler::ops::{Attribute, Broadcast, Op};
use compiler::value::array::Array;
use compiler::value::dim::Dim;
use compiler::value::extents::Extents;
use compiler::value::tensor::{Tensor, Values};

/// Constants up to this size are computed at import: the causal mask of a text encoder is one.
const ELEMENTS_MAX: usize = 1 << 14;

/// Products of operands and result that one folding may visit: matrices of constants.
const FLOPS_MAX: i64 = 1 << 22;

/// Sizes as expressions come in short lists: shapes, and chains of them.
const EXPRESSIONS_MAX: usize = 1 << 10;

/// No size of a real model comes near this many symbols and integers.
pub(crate) const EXPRESSION_MAX: usize = 64;

/// What a value holds, where that is known at import.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Contents {
    /// A constant.
    Tensor(Tensor),
    /// Integers (or floats and truth values that equal them), row-major, some of them symbolic.
    Dims(Vec<Dim>),
}

impl Contents {
    /// The contents `dims` of a value of type `ty`: a constant if no symbol is left.
    pub(crate) fn of_dims(ty: &TensorType, dims: Vec<Dim>) -> Contents {
        let known: Option<Vec<i64>> = dims.iter().map(Dim::known).collect();
        match (known, ty.extents()) {
            (Some(ints), Some(shape)) => {
                let ints = Tensor::from_values(DType::I64, &shape, &Values::Int(ints));
                Contents::Tensor(ints.cast(ty.dtype))
            }
            (_, _) => Contents::Dims(dims),
        }
    }

    /// The contents as integers, if they are some.
    pub(crate) fn dims(&self) -> Option<Vec<Dim>> {
        match self {
            Contents::Dims(dims) => Some(dims.clone()),
            Contents::Tensor(tensor) if tensor.elements() > EXPRESSIONS_MAX => None,
            Contents::Tensor(tensor) => match tensor.values() {
                Values::Int(ints) => Some(ints.into_iter().map(Dim::from).collect()),
                Values::Bool(truths) => Some(
                    truths
                        .into_iter()
                        .map(|t| Dim::from(i32::from(t)))
                        .collect(),
                ),
                Values::Float(floats) => floats.into_iter().map(whole).collect(),
            },
        }
    }
}

/// The integer that a float is, if it is one.
fn whole(float: f64) -> Option<Dim> {
    (float.fract() == 0.0 && float.abs() < 2f64.powi(53)).then(|| Dim::from(float as i64))
}

/// The contents of the result of `op`, of type `ty`.
pub(crate) fn fold(
    op: &Op,
    operands: &[(&TensorType, &Contents)],
    ty: &TensorType,
) -> Option<Contents> {
    let shape = ty.extents()?;
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    if elements > ELEMENTS_MAX || !is_bound(op) {
        return None;
    }
    let result = Extents {
        dtype: ty.dtype,
        shape,
    };
    let tensors: Option<Vec<&Tensor>> = operands
        .iter()
        .map(|(_, contents)| match contents {
            Contents::Tensor(tensor) => Some(tensor),
            Contents::Dims(_) => None,
        })
        .collect();
    if let Some(tensors) = tensors {
        let types: Vec<TensorType> = operands.iter().map(|(ty, _)| (*ty).clone()).collect();
        let large = tensors
            .iter()
            .any(|tensor| tensor.elements() > ELEMENTS_MAX);
        if large
            || op
                .flops(&types, ty)
                .known()
                .is_none_or(|flops| flops > FLOPS_MAX)
        {
            return None;
        }
        let arrays: Vec<Array> = tensors.into_iter().map(Array::from).collect();
        let values = op.eval(&arrays.iter().collect::<Vec<_>>(), &result).ok()?;
        return Some(Contents::Tensor(Tensor::from_values(
            ty.dtype,
            &result.shape,
            &values,
        )));
    }
    if elements > EXPRESSIONS_MAX {
        return None;
    }
    let dims = moved(op, operands, &result).or_else(|| computed(op, operands, &result))?;
    let small = dims.iter().all(|dim| dim.size() <= EXPRESSION_MAX);
    small.then(|| Contents::of_dims(ty, dims))
}

/// Whether no attribute is symbolic, so that the operator can be evaluated.
fn is_bound(op: &Op) -> bool {
    op.attributes()
        .iter()
        .all(|(_, attribute)| match attribute {
            Attribute::Dims(dims) => dims.iter().all(|dim| dim.known().is_some()),
            _ => true,
        })
}

/// The operands whose elements an operator moves without looking at them.
fn payload(op: &Op, operands: usize) -> Option<Vec<usize>> {
    match op.name() {
        "reshape" | "transpose" | "broadcast" | "slice" | "gather" | "gather_nd" => Some(vec![0]),
        "concat" => Some((0..operands).collect()),
        "select" => Some(vec![1, 2]),
        _ => None,
    }
}

/// The result of an operator that moves elements: it is evaluated on their positions in a pool.
fn moved(op: &Op, operands: &[(&TensorType, &Contents)], result: &Extents) -> Option<Vec<Dim>> {
    let payload = payload(op, operands.len())?;
    let mut pool: Vec<Dim> = Vec::new();
    let mut arrays = Vec::with_capacity(operands.len());
    for (index, (ty, contents)) in operands.iter().enumerate() {
        if payload.contains(&index) {
            let start = pool.len();
            pool.extend(contents.dims()?);
            let positions = (start..pool.len())
                .map(|position| position as i64)
                .collect();
            arrays.push(Array {
                shape: ty.extents()?,
                values: Values::Int(positions),
            });
        } else {
            match contents {
                Contents::Tensor(tensor) => arrays.push(Array::from(tensor)),
                Contents::Dims(_) => return None,
            }
        }
    }
    let positions = Extents {
        dtype: DType::I64,
        shape: result.shape.clone(),
    };
    match op
        .eval(&arrays.iter().collect::<Vec<_>>(), &positions)
        .ok()?
    {
        Values::Int(positions) => {
            let dim = |position: i64| pool.get(usize::try_from(position).ok()?).cloned();
            positions.into_iter().map(dim).collect()
        }
        Values::Bool(_) | Values::Float(_) => None,
    }
}

/// The result of arithmetic on expressions, element by element.
fn computed(op: &Op, operands: &[(&TensorType, &Contents)], result: &Extents) -> Option<Vec<Dim>> {
    let operand = |index: usize| -> Option<Vec<Dim>> {
        let (ty, contents) = operands.get(index)?;
        stretched(ty, contents, &result.shape)
    };
    let unary = |f: fn(&Dim) -> Option<Dim>| operand(0)?.iter().map(f).collect();
    let binary = |f: fn(&Dim, &Dim) -> Option<Dim>| {
        let (left, right) = (operand(0)?, operand(1)?);
        left.iter().zip(&right).map(|(a, b)| f(a, b)).collect()
    };
    let float = result.dtype.is_float();
    match op.name() {
        "cast" if result.dtype == DType::Bool => unary(|a| truth(differs(a, &Dim::from(0))?)),
        "cast" | "floor" | "ceil" => unary(|a| Some(a.clone())),
        "neg" => unary(|a| Some(a.mul(&Dim::from(-1)))),
        "add" => binary(|a, b| Some(a.add(b))),
        "sub" => binary(|a, b| Some(a.sub(b))),
        "mul" => binary(|a, b| Some(a.mul(b))),
        "div" if float => binary(Dim::exact_div),
        "div" => binary(quotient),
        "max" => binary(larger),
        "min" => binary(|a, b| larger(b, a).map(|larger| if larger == *b { a } else { b }.clone())),
        "equal" => binary(|a, b| truth(!differs(a, b)?)),
        "less" => binary(|a, b| truth(less(a, b)?)),
        "less_equal" => binary(|a, b| truth(!less(b, a)?)),
        _ => None,
    }
}

/// The contents of an operand as if it had the shape of the result.
fn stretched(ty: &TensorType, contents: &Contents, shape: &[usize]) -> Option<Vec<Dim>> {
    let dims = contents.dims()?;
    if ty.extents()? == shape {
        return Some(dims);
    }
    let op = Op::from(Broadcast {
        shape: shape.iter().map(|&dim| Dim::from(dim)).collect(),
    });
    let result = Extents {
        dtype: ty.dtype,
        shape: shape.to_vec(),
    };
    moved(&op, &[(ty, &Contents::Dims(dims))], &result)
}

fn truth(value: bool) -> Option<Dim> {
    Some(Dim::from(i32::from(value)))
}

/// Whether two expressions differ for every binding, or for none.
fn differs(a: &Dim, b: &Dim) -> Option<bool> {
    if a == b {
        return Some(false);
    }
    let apart = |d: Dim| d.lower_bound().is_some_and(|bound| bound > 0);
    (apart(a.sub(b)) || apart(b.sub(a))).then_some(true)
}

/// Whether `a < b` for every binding, or for none.
fn less(a: &Dim, b: &Dim) -> Option<bool> {
    if b.sub(a).lower_bound().is_some_and(|bound| bound > 0) {
        return Some(true);
    }
    a.sub(b)
        .lower_bound()
        .is_some_and(|bound| bound >= 0)
        .then_some(false)
}

/// The larger of two expressions, if it is the same one for every binding.
fn larger(a: &Dim, b: &Dim) -> Option<Dim> {
    less(a, b).map(|less| if less { b.clone() } else { a.clone() })
}

/// Integer division as the operator does it: towards zero, which is downwards for sizes.
fn quotient(a: &Dim, b: &Dim) -> Option<Dim> {
    if let Some(exact) = a.exact_div(b).filter(|_| !b.is(0)) {
        return Some(exact);
    }
    let divisor = b.known().filter(|&divisor| divisor > 0)?;
    a.lower_bound().filter(|&bound| bound >= 0)?;
    Some(a.floor_div(divisor))
}

/// The operators that [`fold`] treats by name, for the test that they exist.
#[cfg(test)]
const NAMED: &[&str] = &[
    "add",
    "broadcast",
    "cast",
    "ceil",
    "concat",
    "div",
    "equal",
    "floor",
    "gather",
    "gather_nd",
    "less",
    "less_equal",
    "max",
    "min",
    "mul",
    "neg",
    "reshape",
    "select",
    "slice",
    "sub",
    "transpose",
];

#[cfg(test)]
mod tests {
    use compiler::ops;

    use super::*;

    #[test]
    fn the_operators_named_here_exist() {
        for name in NAMED {
            assert!(ops::NAMES.contains(name), "{name}");
        }
    }
}
