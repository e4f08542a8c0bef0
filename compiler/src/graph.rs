//! The graph IR (level 0): typed tensor operators in static single assignment form.
//!
//! Takes operators and operands through [`Builder`], which infers and checks every type at once,
//! so that an ill-typed graph cannot be built. Values are numbered in an order in which every
//! operand comes before its use. Nothing here knows a model, a file format or a machine.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use crate::dim::{Bindings, Dim};
use crate::dtype::DType;
use crate::ops::{Constant, Op, Violation};
use crate::tensor::Tensor;

/// A value of one function; prints as in the text form, `%7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// The type of a value: element type and extents, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The extents, outermost first; no extents for a scalar.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type with extents given as anything that is a [`Dim`].
    pub fn new<D: Into<Dim>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> TensorType {
        TensorType {
            dtype,
            shape: shape.into_iter().map(Into::into).collect(),
        }
    }

    /// A scalar type.
    pub fn scalar(dtype: DType) -> TensorType {
        TensorType {
            dtype,
            shape: Vec::new(),
        }
    }

    /// The type of a concrete tensor.
    pub fn of(tensor: &Tensor) -> TensorType {
        TensorType::new(tensor.dtype(), tensor.shape().iter().copied())
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn elements(&self) -> Dim {
        self.shape
            .iter()
            .fold(Dim::from(1), |product, dim| product.mul(dim))
    }

    /// The extents, if all are known and not negative.
    pub fn extents(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::extent).collect()
    }

    /// The same type with bound symbols replaced.
    pub fn bind(&self, bindings: &Bindings) -> TensorType {
        TensorType {
            dtype: self.dtype,
            shape: self.shape.iter().map(|dim| dim.bind(bindings)).collect(),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (axis, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if axis > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// What a parameter of a function is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Given anew at each call.
    Input,
    /// Given once, when the program is loaded; stored under the parameter's name.
    Weight,
    /// Given once, when the program is loaded; after each run the result of the same name takes
    /// its place, which the caller does not get.
    State,
}

impl Role {
    /// The word for it.
    fn what(self) -> &'static str {
        match self {
            Role::Input => "input",
            Role::Weight => "weight",
            Role::State => "state",
        }
    }

    /// Among whose names its own are distinct: states are given together with weights.
    fn kind(self) -> &'static str {
        match self {
            Role::Input => "input",
            Role::Weight | Role::State => "weight",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Param {
    /// The name by which users, files and other functions know it.
    pub name: String,
    /// What it is fed with.
    pub role: Role,
}

/// One application of an operator; it has one result.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operator with its attributes.
    pub op: Op,
    /// The operands; optional ones are left out at the end.
    pub operands: Vec<Value>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    /// A parameter.
    Param(Param),
    /// The result of an operator.
    Node(Node),
}

/// All that is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueData {
    /// Its definition.
    pub definition: Definition,
    /// Its type.
    pub ty: TensorType,
    /// The place in the source model that it was made for (an ONNX node, a module path); may be
    /// empty.
    pub origin: String,
}

/// A function: parameters, nodes in order of evaluation, named results.
#[derive(Debug, Clone, PartialEq)]
pub struct Func {
    name: String,
    values: Vec<ValueData>,
    results: Vec<(String, Value)>,
}

impl Func {
    /// The name of the function, unique in its module.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every value, in an order in which operands come before their uses.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (Value, &ValueData)> {
        let data = self.values.iter().enumerate();
        data.map(|(index, data)| (Value(index as u32), data))
    }

    /// What is known of `value`.
    ///
    /// # Panics
    /// When `value` belongs to another function.
    pub fn value(&self, value: Value) -> &ValueData {
        &self.values[value.0 as usize]
    }

    /// The type of `value`.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.value(value).ty
    }

    /// The node that defines `value`, unless it is a parameter.
    pub fn node(&self, value: Value) -> Option<&Node> {
        match &self.value(value).definition {
            Definition::Param(_) => None,
            Definition::Node(node) => Some(node),
        }
    }

    /// The constant that `value` is, if it is one.
    pub fn constant(&self, value: Value) -> Option<&Tensor> {
        match self.node(value) {
            Some(Node {
                op: Op::Constant(constant),
                ..
            }) => Some(&constant.tensor),
            Some(_) | None => None,
        }
    }

    /// The parameters of `role`, in order.
    pub fn params(&self, role: Role) -> impl Iterator<Item = (Value, &str, &TensorType)> {
        self.values()
            .filter_map(move |(value, data)| match &data.definition {
                Definition::Param(param) if param.role == role => {
                    Some((value, param.name.as_str(), &data.ty))
                }
                Definition::Param(_) | Definition::Node(_) => None,
            })
    }

    /// The results with their names, in order.
    pub fn results(&self) -> &[(String, Value)] {
        &self.results
    }

    /// Leaves the function without results; gives what they were.
    pub fn take_results(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.results)
    }

    /// The symbols in the types of the parameters, in alphabetical order.
    pub fn symbols(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (_, data) in self.values() {
            if let Definition::Param(_) = data.definition {
                data.ty.shape.iter().for_each(|dim| dim.symbols(&mut names));
            }
        }
        names
    }

    /// The same function with symbols replaced and every type inferred anew.
    ///
    /// # Errors
    /// When a constraint that held for symbols fails for these sizes.
    pub fn bind(&self, bindings: &Bindings) -> Result<Func, GraphError> {
        let mut builder = Builder::new(&self.name);
        for (_, data) in self.values() {
            builder.at(&data.origin);
            match &data.definition {
                Definition::Param(param) => {
                    builder.param(&param.name, param.role, data.ty.bind(bindings))?
                }
                Definition::Node(node) => builder.push(node.op.bind(bindings), &node.operands)?,
            };
        }
        for (name, value) in &self.results {
            builder.result(name, *value)?;
        }
        Ok(builder.finish())
    }
}

/// A set of functions that belong together, such as the components of a pipeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Module {
    /// The functions; their names are unique.
    pub funcs: Vec<Func>,
}

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
        /// The types of its operands.
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

/// No tensor has more elements than this: 4 TiB of f32.
pub const ELEMENTS_MAX: i64 = 1 << 40;

/// No tensor has more axes than this; models use at most seven.
pub const AXES_MAX: usize = 16;

/// No extent has more symbols, divisions and terms than this; models use about ten.
pub const EXTENT_PARTS_MAX: usize = 256;

/// Whether a shape keeps to [`AXES_MAX`] and [`EXTENT_PARTS_MAX`], in its extents and in their
/// product: what an absurd shape would cost grows with the power of its axes.
pub(crate) fn is_bounded(shape: &[Dim]) -> bool {
    let small = |dim: &Dim| dim.size() <= EXTENT_PARTS_MAX;
    let terms = |shape: &[Dim]| {
        let terms = shape.iter().map(|dim| dim.terms().max(1));
        terms.fold(1usize, usize::saturating_mul)
    };
    shape.len() <= AXES_MAX && shape.iter().all(small) && terms(shape) <= EXTENT_PARTS_MAX
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
        let types: Vec<TensorType> = operands.iter().map(|&v| self.ty(v).clone()).collect();
        let ty = op
            .infer(&types)
            .map_err(|violation| GraphError::Constraint {
                op: op.name(),
                origin: self.origin.clone(),
                operands: types,
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
