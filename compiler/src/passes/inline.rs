//! Inlining: bodies take the places of calls.
//!
//! Takes a module and the name of one of its functions, gives that function without calls. Each
//! call gets a copy of the body of its own; equal parts of two copies are for other passes to
//! join. It changes nothing else.

use thiserror::Error;

use crate::graph::verify::{VerifyError, check};
use crate::graph::{Builder, Definition, Func, GraphError, Module, Role, Value};
use crate::ops::{Call, Op};

/// Why calls cannot be replaced.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InlineError {
    /// The module breaks a rule, among them those of calls.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// There is no such function.
    #[error("the module has no function {func:?}, wanted one of {known:?}")]
    Missing {
        /// The name.
        func: String,
        /// The functions of the module.
        known: Vec<String>,
    },
    /// A body cannot be built with the types of its call.
    #[error("the body of {func:?} does not fit its call: {source}")]
    Body {
        /// The function.
        func: String,
        /// What does not fit.
        source: GraphError,
    },
}

/// The function `name` of `module` with bodies in the places of its calls, and of theirs.
///
/// # Errors
/// When the module breaks a rule or has no such function.
pub fn inline(module: &Module, name: &str) -> Result<Func, InlineError> {
    check(module)?;
    let Some(func) = module.funcs.iter().find(|func| func.name() == name) else {
        let known = module.funcs.iter().map(|func| func.name().to_owned());
        return Err(InlineError::Missing {
            func: name.to_owned(),
            known: known.collect(),
        });
    };
    let mut builder = Builder::new(name);
    let built = copy(module, func, &mut builder, None, "").and_then(|values| {
        for (name, value) in func.results() {
            builder.result(name, values[value.0 as usize])?;
        }
        Ok(())
    });
    built.map_err(|source| InlineError::Body {
        func: name.to_owned(),
        source,
    })?;
    Ok(builder.finish())
}

/// Copies the values of `func`; parameters are those given, in the order of a call's operands,
/// or parameters again. Their origins are said within the one of the call, `within`.
fn copy(
    module: &Module,
    func: &Func,
    builder: &mut Builder,
    given: Option<&[Value]>,
    within: &str,
) -> Result<Vec<Value>, GraphError> {
    let inputs = func.params(Role::Input).count();
    let (mut input, mut weight) = (0, inputs);
    let mut values: Vec<Value> = Vec::with_capacity(func.values().len());
    for (_, data) in func.values() {
        let origin = joined(within, &data.origin);
        builder.at(&origin);
        let value = match &data.definition {
            Definition::Param(param) => match given {
                None => builder.param(&param.name, param.role, data.ty.clone())?,
                Some(given) => {
                    let place = match param.role {
                        Role::Input => &mut input,
                        Role::Weight => &mut weight,
                        Role::State => unreachable!("functions with states are not called"),
                    };
                    *place += 1;
                    given[*place - 1]
                }
            },
            Definition::Node(node) => {
                let operands = node.operands.iter();
                let operands: Vec<Value> = operands.map(|v| values[v.0 as usize]).collect();
                match &node.op {
                    Op::Call(call) => body(module, call, builder, &operands, &origin)?,
                    op => builder.push(op.clone(), &operands)?,
                }
            }
        };
        values.push(value);
    }
    Ok(values)
}

fn body(
    module: &Module,
    call: &Call,
    builder: &mut Builder,
    operands: &[Value],
    origin: &str,
) -> Result<Value, GraphError> {
    let called = module.funcs.iter().find(|func| func.name() == call.func);
    let called = called.expect("a verified module has the functions that it calls");
    let values = copy(module, called, builder, Some(operands), origin)?;
    let (_, value) = called.results()[call.result];
    Ok(values[value.0 as usize])
}

/// An origin within another one; either may be empty.
fn joined(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", only) | (only, "") => only.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}
