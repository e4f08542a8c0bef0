//! One node as its lowering sees it: operands as wires, attributes by name and kind.
//!
//! Takes a message and resolved operands, gives typed access with errors that name what is wrong;
//! it lowers nothing.

use std::collections::BTreeMap;

use super::context::{Context, Result, Wire};
use super::error::Problem;
use super::proto::{AttributeProto, KIND_FLOAT, KIND_INT, KIND_STRING, NodeProto, TensorProto};

/// Attributes by name; those of a function's body that stand for the call's are resolved.
pub(crate) type Attributes<'m> = BTreeMap<&'m str, &'m AttributeProto>;

/// A node with its operands.
pub(crate) struct Node<'m> {
    /// The message.
    pub(crate) proto: &'m NodeProto,
    /// The version of its operator set.
    pub(crate) opset: i64,
    /// The operands; `None` where an optional one is left out.
    pub(crate) inputs: Vec<Option<Wire>>,
    /// The attributes.
    pub(crate) attributes: Attributes<'m>,
    /// Tensors of attributes, read already.
    pub(crate) tensors: BTreeMap<&'m str, compiler::value::tensor::Tensor>,
}

impl<'m> Node<'m> {
    /// The operand at `index`, called `name` in the operator's specification.
    pub(crate) fn input(&self, index: usize, name: &'static str) -> Result<Wire> {
        self.optional(index).ok_or(Problem::MissingOperand { name })
    }

    /// The operand at `index`, if it is given.
    pub(crate) fn optional(&self, index: usize) -> Option<Wire> {
        self.inputs.get(index).copied().flatten()
    }

    /// All operands, none of which may be left out.
    pub(crate) fn variadic(&self, name: &'static str) -> Result<Vec<Wire>> {
        let wires: Option<Vec<Wire>> = self.inputs.iter().copied().collect();
        let wires = wires.filter(|wires| !wires.is_empty());
        wires.ok_or(Problem::MissingOperand { name })
    }

    /// The number of results that are used.
    pub(crate) fn results(&self) -> usize {
        let used = self.proto.output.iter().rposition(|name| !name.is_empty());
        used.map_or(0, |last| last + 1)
    }

    /// Whether an attribute is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        self.attribute(name, "an integer", |attribute| {
            attribute.i.or((attribute.kind == KIND_INT).then_some(0))
        })
    }

    /// An integer attribute with a default.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An attribute that is 0 or 1.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A number attribute with a default.
    pub(crate) fn float_or(&self, name: &str, default: f32) -> Result<f64> {
        let found = self.attribute(name, "a number", |attribute| {
            attribute
                .f
                .or((attribute.kind == KIND_FLOAT).then_some(0.0))
        })?;
        Ok(f64::from(found.unwrap_or(default)))
    }

    /// A list of integers.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        self.attribute(name, "a list of integers", |attribute| match attribute.i {
            Some(_) => None,
            None => Some(attribute.ints.clone()),
        })
    }

    /// A list of numbers.
    pub(crate) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.attribute(name, "a list of numbers", |attribute| {
            Some(attribute.floats.clone())
        })
    }

    /// A text with a default.
    pub(crate) fn text_or(&self, name: &str, default: &str) -> Result<String> {
        let text = |attribute: &AttributeProto| match &attribute.s {
            Some(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            None => (attribute.kind == KIND_STRING).then(String::new),
        };
        let found = self.attribute(name, "a text", text)?;
        Ok(found.unwrap_or_else(|| default.to_owned()))
    }

    /// A tensor attribute.
    pub(crate) fn tensor(&self, name: &str) -> Option<&compiler::value::tensor::Tensor> {
        self.tensors.get(name)
    }

    fn attribute<T>(
        &self,
        name: &str,
        wanted: &str,
        get: impl Fn(&AttributeProto) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(attribute) = self.attributes.get(name) else {
            return Ok(None);
        };
        let value = get(attribute);
        value.map(Some).ok_or_else(|| Problem::Attribute {
            name: name.to_owned(),
            found: "of another kind".to_owned(),
            wanted: wanted.to_owned(),
        })
    }

    /// That an attribute has a value that the operator does not take.
    pub(crate) fn refuse(&self, name: &str, found: impl ToString, wanted: &str) -> Problem {
        Problem::Attribute {
            name: name.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_owned(),
        }
    }
}

/// The tensors among the attributes.
pub(crate) fn tensor_attributes<'m>(
    attributes: &Attributes<'m>,
) -> impl Iterator<Item = (&'m str, &'m TensorProto)> {
    attributes
        .iter()
        .filter_map(|(&name, &attribute)| Some((name, attribute.t.as_ref()?)))
}

/// The axis `axis` of `rank`, counted from the end when negative.
pub(crate) fn axis(axis: i64, rank: usize, name: &str) -> Result<usize> {
    let from_start = match axis < 0 {
        true => axis.checked_add(rank as i64),
        false => Some(axis),
    };
    from_start
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Problem::Attribute {
            name: name.to_owned(),
            found: axis.to_string(),
            wanted: format!("an axis of {rank}"),
        })
}

/// Distinct axes of `rank`, each counted from the end when negative.
pub(crate) fn axes(list: &[i64], rank: usize, name: &str) -> Result<Vec<usize>> {
    let mut found: Vec<usize> = Vec::with_capacity(list.len().min(rank));
    for &entry in list {
        let entry = axis(entry, rank, name)?;
        if found.contains(&entry) {
            return Err(Problem::Attribute {
                name: name.to_owned(),
                found: format!("{list:?}"),
                wanted: "distinct axes".to_owned(),
            });
        }
        found.push(entry);
    }
    Ok(found)
}

/// The axes that an operator takes as an attribute or, in later opsets, as an operand.
pub(crate) fn axes_given(
    context: &Context,
    node: &Node<'_>,
    index: usize,
) -> Result<Option<Vec<i64>>> {
    if let Some(list) = node.ints("axes")? {
        return Ok(Some(list));
    }
    match node.optional(index) {
        Some(wire) => context.ints_of(wire, "axes").map(Some),
        None => Ok(None),
    }
}
