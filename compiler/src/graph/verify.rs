//! The rules of the graph IR, for graphs that come from elsewhere and after every pass.
//!
//! Takes a module, gives it back as [`Verified`], or the first rule that it breaks. What passed
//! does not panic later. It computes no data and repairs nothing.
//!
//! * G1: the functions have distinct names.
//! * G2: every operand and every result is defined, operands before their use.
//! * G3: every operator has the operands and attributes that its constraints want.
//! * G4: every node has the type that its operator infers.
//! * G5: inputs, weights and results have distinct names among their kind; states and weights are
//!   of one kind.
//! * G6: every function has a result.
//! * G7: every symbol is, alone, an extent of some input: only so it is known at a call.
//! * G8: no type has a negative extent, more than 16 axes, more than 2^40 elements, or extents
//!   that are absurdly long expressions.
//! * G9: a call names a function that stands before the caller, has as many operands as that has
//!   inputs and weights, of their types, and declares the type of the result that it takes; a
//!   function with states is not called.
//! * G10: every state has a result of its name and type.

use std::collections::BTreeSet;
use std::ops::Deref;

use thiserror::Error;

use super::builder::{Builder, GraphError};
use super::func::{Definition, Func, Module, Node};
use super::types::{Role, TensorType, Value};
use crate::ops::{Attribute, Call, Op};

/// A module that keeps the rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Module);

impl Verified {
    /// A module that a pass made of a verified one: checked again in debug builds only, since
    /// the builder refuses all but G1, G6 and G7, which passes do not touch.
    pub(crate) fn after_pass(module: Module) -> Result<Verified, VerifyError> {
        if cfg!(debug_assertions) {
            check(&module)?;
        }
        Ok(Verified(module))
    }

    /// The module, to be changed and so to be verified again.
    pub fn into_inner(self) -> Module {
        self.0
    }
}

impl Deref for Verified {
    type Target = Module;

    fn deref(&self) -> &Module {
        &self.0
    }
}

/// The first rule that a module breaks.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum VerifyError {
    /// G1.
    #[error("G1: found two functions named {func:?}, wanted distinct names")]
    DuplicateFunc {
        /// The name.
        func: String,
    },
    /// G2, G3, G5 or G8.
    #[error("{}: in {func:?}, {source}", rule(.source))]
    Graph {
        /// The function.
        func: String,
        /// What is wrong.
        source: GraphError,
    },
    /// G4.
    #[error("G4: in {func:?}, {value} at {origin:?} has type {found}, wanted {wanted}")]
    Type {
        /// The function.
        func: String,
        /// The value.
        value: Value,
        /// Where it comes from.
        origin: String,
        /// The type that it has.
        found: TensorType,
        /// The type inferred.
        wanted: TensorType,
    },
    /// G6.
    #[error("G6: {func:?} has no results, wanted at least one")]
    NoResult {
        /// The function.
        func: String,
    },
    /// G7.
    #[error(
        "G7: in {func:?}, {value} at {origin:?} depends on {symbol:?}, \
         wanted symbols that are an extent of an input"
    )]
    Unbound {
        /// The function.
        func: String,
        /// The value.
        value: Value,
        /// Where it comes from.
        origin: String,
        /// The symbol.
        symbol: String,
    },
    /// G10.
    #[error(
        "G10: in {func:?}, state {name:?} of type {ty} has {found}, \
         wanted a result of its name and type"
    )]
    State {
        /// The function.
        func: String,
        /// The state.
        name: String,
        /// Its type.
        ty: TensorType,
        /// The result of that name, or none.
        found: String,
    },
    /// G9.
    #[error(
        "G9: in {func:?}, {value} at {origin:?} calls {called:?}: found {found}, wanted {wanted}"
    )]
    Call {
        /// The caller.
        func: String,
        /// The call.
        value: Value,
        /// Where it comes from.
        origin: String,
        /// The function that is called.
        called: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
}

/// The number of the rule that the builder found broken.
pub fn rule(error: &GraphError) -> &'static str {
    match error {
        GraphError::Undefined { .. } => "G2",
        GraphError::Constraint { .. } => "G3",
        GraphError::DuplicateName { .. } => "G5",
        GraphError::TooLarge { .. } | GraphError::TooIntricate { .. } => "G8",
    }
}

/// Checks every rule.
///
/// # Errors
/// The first rule that is broken, and where.
pub fn verify(module: Module) -> Result<Verified, VerifyError> {
    check(&module)?;
    Ok(Verified(module))
}

/// Checks every rule, for those who keep the module.
///
/// # Errors
/// As [`verify`].
pub fn check(module: &Module) -> Result<(), VerifyError> {
    let mut names = BTreeSet::new();
    for (place, func) in module.funcs.iter().enumerate() {
        if !names.insert(func.name()) {
            let func = func.name().to_owned();
            return Err(VerifyError::DuplicateFunc { func });
        }
        check_func(func)?;
        check_calls(func, &module.funcs[..place])?;
    }
    Ok(())
}

/// G9: `before` are the functions that may be called.
fn check_calls(func: &Func, before: &[Func]) -> Result<(), VerifyError> {
    for (value, data) in func.values() {
        let Definition::Node(Node {
            op: Op::Call(call),
            operands,
        }) = &data.definition
        else {
            continue;
        };
        let operands = operands.iter().map(|&operand| func.ty(operand));
        if let Err((found, wanted)) = check_call(call, operands.collect(), before) {
            return Err(VerifyError::Call {
                func: func.name().to_owned(),
                value,
                origin: data.origin.clone(),
                called: call.func.clone(),
                found,
                wanted,
            });
        }
    }
    Ok(())
}

/// What was found and what was wanted, where a call does not fit.
fn check_call(
    call: &Call,
    operands: Vec<&TensorType>,
    before: &[Func],
) -> Result<(), (String, String)> {
    let Some(called) = before.iter().find(|func| func.name() == call.func) else {
        let known: Vec<&str> = before.iter().map(Func::name).collect();
        let wanted = format!("one of {known:?}, which stand before it");
        return Err(("no such function".to_owned(), wanted));
    };
    if let Some((_, name, _)) = called.params(Role::State).next() {
        let found = format!("state {name:?}");
        return Err((found, "a function without states".to_owned()));
    }
    let types: Vec<&TensorType> = Call::operand_types(called).collect();
    if types.len() != operands.len() {
        let found = format!("{} operands", operands.len());
        return Err((found, format!("{} inputs and weights", types.len())));
    }
    let mut pairs = operands.iter().zip(&types).enumerate();
    if let Some((place, (found, wanted))) = pairs.find(|(_, (found, wanted))| found != wanted) {
        return Err((format!("{found} as operand {place}"), wanted.to_string()));
    }
    let Some((_, result)) = called.results().get(call.result) else {
        let found = format!("result number {}", call.result);
        return Err((found, format!("one of {} results", called.results().len())));
    };
    let (found, wanted) = (call.ty(), called.ty(*result));
    match found == *wanted {
        true => Ok(()),
        false => Err((format!("the type {found}"), wanted.to_string())),
    }
}

/// Checks the rules that concern one function.
///
/// # Errors
/// As [`verify`].
pub fn check_func(func: &Func) -> Result<(), VerifyError> {
    check_types(func)?;
    if func.results().is_empty() {
        let func = func.name().to_owned();
        return Err(VerifyError::NoResult { func });
    }
    check_states(func)?;
    check_symbols(func)
}

/// Builds the function again: the builder is the one place that knows G2, G3, G5 and G8.
fn check_types(func: &Func) -> Result<(), VerifyError> {
    let named = |source| VerifyError::Graph {
        func: func.name().to_owned(),
        source,
    };
    let mut builder = Builder::new(func.name());
    for (value, data) in func.values() {
        builder.at(&data.origin);
        match &data.definition {
            Definition::Param(param) => builder.param(&param.name, param.role, data.ty.clone()),
            Definition::Node(node) => builder.push(node.op.clone(), &node.operands),
        }
        .map_err(named)?;
        if *builder.ty(value) != data.ty {
            return Err(VerifyError::Type {
                func: func.name().to_owned(),
                value,
                origin: data.origin.clone(),
                found: data.ty.clone(),
                wanted: builder.ty(value).clone(),
            });
        }
    }
    for (name, value) in func.results() {
        builder.result(name, *value).map_err(named)?;
    }
    Ok(())
}

/// G10.
fn check_states(func: &Func) -> Result<(), VerifyError> {
    for (_, name, ty) in func.params(Role::State) {
        let mut results = func.results().iter();
        let found = results.find_map(|(own, value)| (own == name).then(|| func.ty(*value)));
        if found != Some(ty) {
            return Err(VerifyError::State {
                func: func.name().to_owned(),
                name: name.to_owned(),
                ty: ty.clone(),
                found: found.map_or("none".to_owned(), |ty| format!("one of type {ty}")),
            });
        }
    }
    Ok(())
}

/// G7.
fn check_symbols(func: &Func) -> Result<(), VerifyError> {
    let inputs = func.params(Role::Input);
    let bound: BTreeSet<String> = inputs
        .flat_map(|(_, _, ty)| &ty.shape)
        .filter_map(|dim| dim.as_symbol().map(ToOwned::to_owned))
        .collect();
    for (value, data) in func.values() {
        let mut used = BTreeSet::new();
        data.ty.shape.iter().for_each(|dim| dim.symbols(&mut used));
        if let Definition::Node(node) = &data.definition {
            for (_, attribute) in node.op.attributes() {
                symbols(&attribute, &mut used);
            }
        }
        if let Some(symbol) = used.difference(&bound).next() {
            return Err(VerifyError::Unbound {
                func: func.name().to_owned(),
                value,
                origin: data.origin.clone(),
                symbol: symbol.clone(),
            });
        }
    }
    Ok(())
}

fn symbols(attribute: &Attribute, names: &mut BTreeSet<String>) {
    match attribute {
        Attribute::Dim(dim) => dim.symbols(names),
        Attribute::Dims(dims) => dims.iter().for_each(|dim| dim.symbols(names)),
        Attribute::Int(_)
        | Attribute::Ints(_)
        | Attribute::Float(_)
        | Attribute::Bool(_)
        | Attribute::Name(_)
        | Attribute::DType(_)
        | Attribute::Tensor(_) => {}
    }
}
