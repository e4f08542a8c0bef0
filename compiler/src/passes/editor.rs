//! What rules see and may do: nodes rebuilt so far, and the builder that adds to them.
//!
//! Takes nodes in order, gives each a value in the new function; equal nodes get one value. It
//! decides nothing: the driver chooses the node, the rules choose what replaces it.

use std::collections::HashMap;

use crate::graph::text;
use crate::graph::{Builder, Func, GraphError, Node, Role, TensorType, Value};
use crate::ops::{Broadcast, Constant, Op, Reshape};
use crate::value::dim::Dim;
use crate::value::tensor::Tensor;

/// A directional rewrite with a name.
#[derive(Debug)]
pub(super) struct Rule {
    /// The name: that of its file, or of the function in it.
    pub(super) name: &'static str,
    /// Gives a value equal to the node's, if the rule applies.
    pub(super) apply: fn(&Site<'_>, &mut Editor) -> Outcome,
}

/// What a rule returns.
pub(super) type Outcome = Result<Edit, Stop>;

/// Why a rule edits nothing.
#[derive(Debug)]
pub(super) enum Stop {
    /// The site is not what it replaces.
    NoMatch,
    /// The replacement is ill-typed.
    Graph(GraphError),
}

impl From<GraphError> for Stop {
    fn from(source: GraphError) -> Stop {
        Stop::Graph(source)
    }
}

/// The node that is looked at: its operands are values of the new function.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) op: &'a Op,
    pub(super) operands: &'a [Value],
    pub(super) ty: &'a TensorType,
}

/// What replaces a node.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) value: Value,
    pub(super) reason: String,
}

impl Edit {
    pub(super) fn of(value: Value, reason: impl Into<String>) -> Outcome {
        let reason = reason.into();
        Ok(Edit { value, reason })
    }
}

/// Constants with more bytes than this are not compared with each other.
const COMPARED_BYTES_MAX: usize = 1 << 20;

/// What makes two nodes equal.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Constant(Tensor),
    Node(String, Vec<Value>),
}

fn key(op: &Op, operands: &[Value]) -> Option<Key> {
    match op {
        Op::Constant(Constant { tensor }) if tensor.bytes().len() > COMPARED_BYTES_MAX => None,
        Op::Constant(Constant { tensor }) => Some(Key::Constant(tensor.clone())),
        op => Some(Key::Node(text::print_op(op), operands.to_vec())),
    }
}

/// The new function as built so far.
#[derive(Debug)]
pub(super) struct Editor {
    builder: Builder,
    // Only looked up, never walked: its order reaches no output.
    seen: HashMap<Key, Value>,
    users: Vec<u32>,
}

impl Editor {
    pub(super) fn new(name: &str) -> Editor {
        Editor {
            builder: Builder::new(name),
            seen: HashMap::new(),
            users: Vec::new(),
        }
    }

    /// Values from here on come from `origin`.
    pub(super) fn at(&mut self, origin: &str) {
        self.builder.at(origin);
    }

    pub(super) fn param(
        &mut self,
        name: &str,
        role: Role,
        ty: TensorType,
    ) -> Result<Value, GraphError> {
        self.builder.param(name, role, ty)
    }

    /// Applies an operator, or gives the value of an equal node.
    pub(super) fn push(
        &mut self,
        op: impl Into<Op>,
        operands: &[Value],
    ) -> Result<Value, GraphError> {
        let op = op.into();
        let key = key(&op, operands);
        if let Some(&value) = key.as_ref().and_then(|key| self.seen.get(key)) {
            return Ok(value);
        }
        let value = self.builder.push(op, operands)?;
        if let Some(key) = key {
            self.seen.insert(key, value);
        }
        Ok(value)
    }

    /// `value` under another shape of as many elements.
    pub(super) fn reshaped(&mut self, value: Value, shape: &[Dim]) -> Result<Value, GraphError> {
        let shape = shape.to_vec();
        match self.ty(value).shape == shape {
            true => Ok(value),
            false => self.push(Reshape { shape }, &[value]),
        }
    }

    /// `value` stretched to a shape.
    pub(super) fn stretched(&mut self, value: Value, shape: &[Dim]) -> Result<Value, GraphError> {
        let shape = shape.to_vec();
        match self.ty(value).shape == shape {
            true => Ok(value),
            false => self.push(Broadcast { shape }, &[value]),
        }
    }

    /// The value of an equal node, if there is one.
    pub(super) fn find(&self, op: &Op, operands: &[Value]) -> Option<Value> {
        self.seen.get(&key(op, operands)?).copied()
    }

    pub(super) fn ty(&self, value: Value) -> &TensorType {
        self.builder.ty(value)
    }

    /// The node that defines `value`, unless it is a parameter.
    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        self.builder.func().node(value)
    }

    pub(super) fn constant(&self, value: Value) -> Option<&Tensor> {
        self.builder.func().constant(value)
    }

    /// Whether the function as it was used `value` exactly once; false for what a rule added in
    /// this sweep, which the next one will know better.
    pub(super) fn used_once(&self, value: Value) -> bool {
        self.users.get(value.0 as usize) == Some(&1)
    }

    /// Notes that `value` stands for one that had so many uses.
    pub(super) fn add_users(&mut self, value: Value, users: u32) {
        let index = value.0 as usize;
        if self.users.len() <= index {
            self.users.resize(index + 1, 0);
        }
        self.users[index] += users;
    }

    pub(super) fn finish(
        mut self,
        results: impl Iterator<Item = (String, Value)>,
    ) -> Result<Func, GraphError> {
        for (name, value) in results {
            self.builder.result(&name, value)?;
        }
        Ok(self.builder.finish())
    }
}
