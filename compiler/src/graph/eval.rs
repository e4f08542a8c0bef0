//! The graph oracle: executes a function with plain loops in 64-bit arithmetic.
//!
//! Takes a bound function and its parameters, gives its results. It defines what every operator
//! means: backends are compared with it. It is never fast.

use std::collections::BTreeMap;

use thiserror::Error;

use super::func::{Definition, Func};
use super::types::{Role, TensorType, Value};
use crate::value::array::{Array, Fault, Precision, round};
use crate::value::extents::Extents;
use crate::value::tensor::Tensor;

/// Why a function cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EvalError {
    /// A parameter was not given.
    #[error("{role} {name:?} of type {ty} is missing")]
    Missing {
        /// Whether it is an input or a weight.
        role: Role,
        /// Its name.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// A parameter has another type.
    #[error("{role} {name:?} has type {found}, wanted {wanted}")]
    Type {
        /// Whether it is an input or a weight.
        role: Role,
        /// Its name.
        name: String,
        /// The type given.
        found: TensorType,
        /// The function's type.
        wanted: TensorType,
    },
    /// A value's extents are symbolic.
    #[error("{op} at {origin:?} has type {ty}, wanted known sizes")]
    Unbound {
        /// The operator or parameter.
        op: String,
        /// Where it comes from.
        origin: String,
        /// The type.
        ty: TensorType,
    },
    /// An operator met data outside of its domain.
    #[error("{op} at {origin:?}: {fault}")]
    Fault {
        /// The operator.
        op: &'static str,
        /// Where it comes from.
        origin: String,
        /// What it met.
        fault: Fault,
    },
}

/// Evaluates `func`; gives its results in order, new states among them. States are given with the
/// weights. Every array is freed after its last use.
///
/// # Errors
/// When a parameter is missing or of another type, a size is not bound, or an operator meets
/// data outside of its domain.
pub fn eval(
    func: &Func,
    inputs: &BTreeMap<String, Tensor>,
    weights: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<Vec<(String, Array)>, EvalError> {
    let last_uses = last_uses(func);
    let mut arrays: Vec<Option<Array>> = Vec::with_capacity(func.values().len());
    for (value, data) in func.values() {
        let array = match &data.definition {
            Definition::Param(param) => {
                let given = match param.role {
                    Role::Input => inputs.get(&param.name),
                    Role::Weight | Role::State => weights.get(&param.name),
                };
                Array::from(check_param(param.role, &param.name, &data.ty, given)?)
            }
            Definition::Node(node) => {
                let shape = data.ty.extents().ok_or_else(|| EvalError::Unbound {
                    op: node.op.name().to_owned(),
                    origin: data.origin.clone(),
                    ty: data.ty.clone(),
                })?;
                let operands: Vec<&Array> = node
                    .operands
                    .iter()
                    .map(|operand| {
                        arrays[operand.0 as usize]
                            .as_ref()
                            .expect("operands come first and live until their last use")
                    })
                    .collect();
                let extents = Extents {
                    dtype: data.ty.dtype,
                    shape,
                };
                let values = node.op.eval(&operands, &extents).map_err(|fault| {
                    let origin = data.origin.clone();
                    EvalError::Fault {
                        op: node.op.name(),
                        origin,
                        fault,
                    }
                })?;
                Array {
                    shape: extents.shape,
                    values: round(values, data.ty.dtype, precision),
                }
            }
        };
        arrays.push(Some(array));
        if let Definition::Node(node) = &data.definition {
            for operand in &node.operands {
                if last_uses[operand.0 as usize] == value.0 {
                    arrays[operand.0 as usize] = None;
                }
            }
        }
    }
    let result = |(name, value): &(String, Value)| {
        let array = arrays[value.0 as usize].clone();
        (name.clone(), array.expect("results live to the end"))
    };
    Ok(func.results().iter().map(result).collect())
}

/// The index of the last value that uses each value; results are used at the very end.
pub fn last_uses(func: &Func) -> Vec<u32> {
    let mut last: Vec<u32> = func.values().map(|(value, _)| value.0).collect();
    for (value, data) in func.values() {
        if let Definition::Node(node) = &data.definition {
            for operand in &node.operands {
                last[operand.0 as usize] = value.0;
            }
        }
    }
    for (_, value) in func.results() {
        last[value.0 as usize] = u32::MAX;
    }
    last
}

/// The tensor given for a parameter, if its type is the parameter's.
///
/// # Errors
/// When it is missing or has another type.
pub fn check_param<'a>(
    role: Role,
    name: &str,
    ty: &TensorType,
    given: Option<&'a Tensor>,
) -> Result<&'a Tensor, EvalError> {
    let Some(tensor) = given else {
        let (name, ty) = (name.to_owned(), ty.clone());
        return Err(EvalError::Missing { role, name, ty });
    };
    let found = TensorType::of(tensor);
    if found != *ty {
        let (name, wanted) = (name.to_owned(), ty.clone());
        return Err(EvalError::Type {
            role,
            name,
            found,
            wanted,
        });
    }
    Ok(tensor)
}
