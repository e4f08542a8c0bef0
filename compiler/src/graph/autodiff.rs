//! Reverse-mode differentiation of the graph: a source transformation.
//!
//! Takes a function under construction that has computed a scalar loss, goes back from the loss
//! through every node that depends on what gradients are wanted for, and appends what the rules
//! of their operators give. The gradient is graph like any other: passes simplify it, regions
//! fuse it, plans place it. It never decides what is kept or computed again.
//!
//! # Source
//! Griewank and Walther 2008, "Evaluating Derivatives", section 3.2 (reverse accumulation).

use thiserror::Error;

use super::builder::{Builder, GraphError};
use super::func::{Definition, Func, Node};
use super::types::{TensorType, Value};
use crate::ops::{Add, Broadcast, Constant, Op, Reverse, RuleError};
use crate::value::dtype::DType;
use crate::value::tensor::{Tensor, Values};

/// Why a function cannot be differentiated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GradientError {
    /// The loss is not one number.
    #[error("the loss has type {found}, wanted one floating-point number")]
    Loss {
        /// Its type.
        found: TensorType,
    },
    /// A gradient is wanted for something that has none.
    #[error("a gradient is wanted for {value} of type {found}, wanted a floating-point type")]
    Integer {
        /// The value.
        value: Value,
        /// Its type.
        found: TensorType,
    },
    /// A size is not known.
    #[error("{what} at {origin:?} has type {ty}, wanted known sizes")]
    Unbound {
        /// The operator or parameter.
        what: String,
        /// Where it comes from.
        origin: String,
        /// The type.
        ty: TensorType,
    },
    /// An operator has no gradient.
    #[error("{op} at {origin:?}: {source}")]
    Rule {
        /// The operator.
        op: &'static str,
        /// Where it comes from.
        origin: String,
        /// Why not.
        source: RuleError,
    },
    /// A rule gave a gradient of another type than its operand's: our fault.
    #[error("the gradient of {op} at {origin:?} has type {found}, wanted {wanted}")]
    Type {
        /// The operator.
        op: &'static str,
        /// Where it comes from.
        origin: String,
        /// The gradient's type.
        found: TensorType,
        /// The operand's.
        wanted: TensorType,
    },
    /// A node cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Appends the gradients of `loss` with respect to each of `wanted`, in their order and of their
/// types; zeros where the loss does not depend on one.
///
/// `loss` is a scalar, or has one element; every size is known and no call is left.
///
/// # Errors
/// When an operator between them has no gradient, or a size is not known.
pub fn backward(
    builder: &mut Builder,
    loss: Value,
    wanted: &[Value],
) -> Result<Vec<Value>, GradientError> {
    let ty = builder.ty(loss).clone();
    if !ty.dtype.is_float() || ty.elements().known() != Some(1) {
        return Err(GradientError::Loss { found: ty });
    }
    for &value in wanted {
        let found = builder.ty(value);
        if !found.dtype.is_float() {
            let found = found.clone();
            return Err(GradientError::Integer { value, found });
        }
    }
    check_bound(builder.func(), loss)?;
    let active = active(builder.func(), loss, wanted);
    let mut gradients: Vec<Option<Value>> = vec![None; loss.0 as usize + 1];
    gradients[loss.0 as usize] = Some(full(builder, 1.0, &ty)?);
    for index in (0..=loss.0).rev() {
        let data = builder.func().value(Value(index));
        let (Definition::Node(node), Some(cotangent)) =
            (&data.definition, gradients[index as usize])
        else {
            continue;
        };
        if !active[index as usize] {
            continue;
        }
        let (node, origin) = (node.clone(), data.origin.clone());
        builder.at(&origin);
        let given = visit(builder, &node, &origin, Value(index), cotangent, &active)?;
        for (operand, gradient) in given {
            let sum = &mut gradients[operand.0 as usize];
            *sum = Some(match *sum {
                Some(sum) => builder.push(Add, &[sum, gradient])?,
                None => gradient,
            });
        }
    }
    builder.at("");
    let known = |value: Value| gradients.get(value.0 as usize).copied().flatten();
    let each = wanted.iter().map(|&value| match known(value) {
        Some(gradient) => Ok(gradient),
        None => {
            let ty = builder.ty(value).clone();
            Ok(full(builder, 0.0, &ty)?)
        }
    });
    each.collect()
}

/// The gradients that one node hands to its operands.
fn visit(
    builder: &mut Builder,
    node: &Node,
    origin: &str,
    result: Value,
    cotangent: Value,
    active: &[bool],
) -> Result<Vec<(Value, Value)>, GradientError> {
    let wanted: Vec<bool> = node.operands.iter().map(|v| active[v.0 as usize]).collect();
    let gradients = node.op.gradient(&mut Reverse {
        builder,
        node,
        result,
        cotangent,
        wanted: &wanted,
    });
    let gradients = gradients.map_err(|source| GradientError::Rule {
        op: node.op.name(),
        origin: origin.to_owned(),
        source,
    })?;
    let mut given = Vec::with_capacity(gradients.len());
    for (&operand, gradient) in node.operands.iter().zip(gradients) {
        let Some(gradient) = gradient else { continue };
        if builder.ty(gradient) != builder.ty(operand) {
            return Err(GradientError::Type {
                op: node.op.name(),
                origin: origin.to_owned(),
                found: builder.ty(gradient).clone(),
                wanted: builder.ty(operand).clone(),
            });
        }
        given.push((operand, gradient));
    }
    Ok(given)
}

fn check_bound(func: &Func, loss: Value) -> Result<(), GradientError> {
    let known = func.values().take(loss.0 as usize + 1);
    for (_, data) in known {
        if data.ty.extents().is_none() {
            let what = match &data.definition {
                Definition::Param(param) => param.name.clone(),
                Definition::Node(node) => node.op.name().to_owned(),
            };
            return Err(GradientError::Unbound {
                what,
                origin: data.origin.clone(),
                ty: data.ty.clone(),
            });
        }
    }
    Ok(())
}

/// Which floats, up to the loss, depend on what gradients are wanted for.
fn active(func: &Func, loss: Value, wanted: &[Value]) -> Vec<bool> {
    let mut active = vec![false; loss.0 as usize + 1];
    for (value, data) in func.values().take(active.len()) {
        let depends = match &data.definition {
            Definition::Param(_) => false,
            Definition::Node(node) => match node.op {
                Op::StopGradient(_) => false,
                _ => node.operands.iter().any(|v| active[v.0 as usize]),
            },
        };
        let depends = depends && data.ty.dtype.is_float();
        active[value.0 as usize] = depends || wanted.contains(&value);
    }
    active
}

/// A tensor that holds one number everywhere.
fn full(builder: &mut Builder, number: f64, ty: &TensorType) -> Result<Value, GraphError> {
    let tensor = scalar(ty.dtype, number);
    let value = builder.push(Constant { tensor }, &[])?;
    match ty.shape.is_empty() {
        true => Ok(value),
        false => {
            let shape = ty.shape.clone();
            builder.push(Broadcast { shape }, &[value])
        }
    }
}

fn scalar(dtype: DType, number: f64) -> Tensor {
    Tensor::from_values(dtype, &[], &Values::Float(vec![number]))
}
