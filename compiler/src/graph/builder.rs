//! Builds functions value by value.
//!
//! Takes operators and operands, infers and checks every type at once, so that an ill-typed
//! graph cannot be built.

use std::collections::BTreeSet;

use thiserror::Error;

use super::func::{Definition, Func, Node, ValueData};
use super::types::{Param, Role, TensorType, Value};
use crate::ops::{Constant, Op, Violation};
use crate::value::dim::Dim;
use crate::value::extents::{AXES_MAX, ELEMENTS_MAX, EXTENT_PARTS_MAX, is_bounded};
use crate::value::tensor::Tensor;

/// Operands whose types an error shows.
const SHOWN_MAX: usize = 16;

/// Why a node cannot be built.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GraphError {
    /// An operator's constraint does not hold.
    #[error("{op}{} at {origin:?}: {violation}", signature(.operands))]
    Constraint {
        /// The operator.
        op: &'static str,
        /// Where it comes from.
        origin: String,
        /// The types of its operands, of many the first.
        operands: Vec<TensorType>,
        /// The constraint.
        violation: Violation,
    },
    /// A tensor larger than any machine's memory.
    #[error("{what} at {origin:?} has type {ty}, wanted at most 2^40 elements per tensor")]
    TooLarge {
        /// The operator or the parameter.
        what: String,
        /// Where it comes from.
        origin: String,
        /// The type.
        ty: TensorType,
    },
    /// A shape that is absurd before its sizes are known.
    #[error(
        "{what} at {origin:?} has a shape of {axes} axes that is too long to write, \
         wanted at most {AXES_MAX} axes and {EXTENT_PARTS_MAX} terms"
    )]
    TooIntricate {
        /// The operator or the parameter.
        what: String,
        /// Where it comes from.
        origin: String,
        /// The number of axes.
        axes: usize,
    },
    /// A value that this function has not defined.
    #[error("{value} is used in {func:?} before it is defined")]
    Undefined {
        /// The value.
        value: Value,
        /// The function.
        func: String,
    },
    /// Two parameters of one role, or two results, share a name.
    #[error("{func:?} has two {what}s named {name:?}, wanted distinct names")]
    DuplicateName {
        /// The function.
        func: String,
        /// `input`, `weight` or `result`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

fn signature(operands: &[TensorType]) -> String {
    let list: Vec<String> = operands.iter().map(ToString::to_string).collect();
    format!("({})", list.join(", "))
}

/// Builds one function, value by value.
#[derive(Debug)]
pub struct Builder {
    func: Func,
    origin: String,
    names: BTreeSet<(&'static str, String)>,
}

impl Builder {
    /// Begins the function `name`.
    pub fn new(name: &str) -> Builder {
        Builder {
            func: Func {
                name: name.to_owned(),
                values: Vec::new(),
                results: Vec::new(),
            },
            origin: String::new(),
            names: BTreeSet::new(),
        }
    }

    /// Goes on building `func`: its values keep their numbers, its results stay.
    pub fn resume(func: Func) -> Builder {
        let mut names = BTreeSet::new();
        for (_, data) in func.values() {
            if let Definition::Param(param) = &data.definition {
                names.insert((param.role.kind(), param.name.clone()));
            }
        }
        let results = func.results.iter();
        names.extend(results.map(|(name, _)| ("result", name.clone())));
        Builder {
            func,
            origin: String::new(),
            names,
        }
    }

    /// Values from here on come from `origin` (an ONNX node, a module path).
    pub fn at(&mut self, origin: &str) {
        origin.clone_into(&mut self.origin);
    }

    /// The function as built so far.
    pub fn func(&self) -> &Func {
        &self.func
    }

    /// The type of a value built before.
    pub fn ty(&self, value: Value) -> &TensorType {
        self.func.ty(value)
    }

    /// Adds a parameter that is given at each call.
    ///
    /// # Errors
    /// When another input has that name, or the type is absurd.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Result<Value, GraphError> {
        self.param(name, Role::Input, ty)
    }

    /// Adds a parameter that is given when the program is loaded.
    ///
    /// # Errors
    /// When another weight has that name, or the type is absurd.
    pub fn weight(&mut self, name: &str, ty: TensorType) -> Result<Value, GraphError> {
        self.param(name, Role::Weight, ty)
    }

    /// Adds a parameter that is given when the program is loaded and that the result of its name
    /// replaces after each run.
    ///
    /// # Errors
    /// When another state or weight has that name, or the type is absurd.
    pub fn state(&mut self, name: &str, ty: TensorType) -> Result<Value, GraphError> {
        self.param(name, Role::State, ty)
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// As [`Builder::input`], [`Builder::weight`] and [`Builder::state`].
    pub fn param(&mut self, name: &str, role: Role, ty: TensorType) -> Result<Value, GraphError> {
        self.claim(role.kind(), name)?;
        let param = Param {
            name: name.to_owned(),
            role,
        };
        self.define(name, Definition::Param(param), ty)
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// Never for tensors that exist in memory; the type is checked as every other.
    pub fn constant(&mut self, tensor: Tensor) -> Result<Value, GraphError> {
        self.push(Constant { tensor }, &[])
    }

    /// Applies an operator.
    ///
    /// # Errors
    /// When a constraint of the operator does not hold, naming it and the operand types.
    pub fn push(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, GraphError> {
        let op = op.into();
        if let Some(&value) = operands
            .iter()
            .find(|v| v.0 as usize >= self.func.values.len())
        {
            let func = self.func.name.clone();
            return Err(GraphError::Undefined { value, func });
        }
        let types: Vec<&TensorType> = operands.iter().map(|&v| self.ty(v)).collect();
        let ty = op
            .infer(&types)
            .map_err(|violation| GraphError::Constraint {
                op: op.name(),
                origin: self.origin.clone(),
                operands: types.iter().take(SHOWN_MAX).copied().cloned().collect(),
                violation,
            })?;
        let node = Node {
            op,
            operands: operands.to_vec(),
        };
        let name = node.op.name();
        self.define(name, Definition::Node(node), ty)
    }

    /// Names `value` as a result of the function.
    ///
    /// # Errors
    /// When another result has that name or the value is not defined.
    pub fn result(&mut self, name: &str, value: Value) -> Result<(), GraphError> {
        if value.0 as usize >= self.func.values.len() {
            let func = self.func.name.clone();
            return Err(GraphError::Undefined { value, func });
        }
        self.claim("result", name)?;
        self.func.results.push((name.to_owned(), value));
        Ok(())
    }

    /// Ends the function.
    pub fn finish(self) -> Func {
        self.func
    }

    fn claim(&mut self, what: &'static str, name: &str) -> Result<(), GraphError> {
        if self.names.insert((what, name.to_owned())) {
            return Ok(());
        }
        let func = self.func.name.clone();
        let name = name.to_owned();
        Err(GraphError::DuplicateName { func, what, name })
    }

    fn define(
        &mut self,
        what: &str,
        definition: Definition,
        ty: TensorType,
    ) -> Result<Value, GraphError> {
        if !is_bounded(&ty.shape) {
            let (what, origin) = (what.to_owned(), self.origin.clone());
            let axes = ty.rank();
            return Err(GraphError::TooIntricate { what, origin, axes });
        }
        // An extent of 0 counts as 1: strides of empty tensors must stay in range too.
        let known = ty.shape.iter().filter_map(Dim::known);
        let count = known
            .clone()
            .fold(1, |count: i64, dim| count.saturating_mul(dim.max(1)));
        if count > ELEMENTS_MAX || known.clone().any(|dim| dim < 0) {
            let origin = self.origin.clone();
            let what = what.to_owned();
            return Err(GraphError::TooLarge { what, origin, ty });
        }
        let value = Value(self.func.values.len() as u32);
        self.func.values.push(ValueData {
            definition,
            ty,
            origin: self.origin.clone(),
        });
        Ok(value)
    }
}
