//! Functions of the graph IR as they are read: values in order, their nodes, named results.
//!
//! A function is made by [`Builder`](super::builder::Builder) alone, so that every value has the
//! type that its operator infers, and every operand comes before its use.

use std::collections::BTreeSet;

use super::types::{Param, Role, TensorType, Value};
use crate::ops::Op;
use crate::value::tensor::Tensor;

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
    pub(super) name: String,
    pub(super) values: Vec<ValueData>,
    pub(super) results: Vec<(String, Value)>,
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

    /// Takes away the results that `keep` refuses; what only they needed stays, unread.
    pub fn keep_results(&mut self, keep: impl Fn(&str) -> bool) {
        self.results.retain(|(name, _)| keep(name));
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
}

/// A set of functions that belong together, such as the components of a pipeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Module {
    /// The functions; their names are unique.
    pub funcs: Vec<Func>,
}
