//! What a body of nodes is read with: operator sets, the attributes of the call, local functions.
//!
//! Takes the model's lists, gives for a node its operator set, its attributes, its name in messages
//! and the function it calls; and refuses all unsupported nodes of a model at once.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::OPSETS;
use super::error::{ImportError, Unsupported};
use super::node::Attributes;
use super::ops;
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
};

/// What a body of nodes is read with.
#[derive(Clone)]
pub(crate) struct Frame<'m> {
    /// The versions of operator sets, by domain.
    opsets: BTreeMap<&'m str, i64>,
    /// The attributes of the call that this body belongs to.
    attributes: Attributes<'m>,
    /// The names of the calls, for origins.
    pub(crate) prefix: String,
    /// How many calls and branches this body is in.
    pub(crate) depth: usize,
}

impl<'m> Frame<'m> {
    /// The frame of the main graph.
    pub(crate) fn root(opsets: &'m [OperatorSetIdProto]) -> Result<Frame<'m>, ImportError> {
        let mut frame = Frame {
            opsets: BTreeMap::new(),
            attributes: Attributes::new(),
            prefix: String::new(),
            depth: 0,
        };
        frame.import_opsets(opsets)?;
        Ok(frame)
    }

    fn import_opsets(&mut self, opsets: &'m [OperatorSetIdProto]) -> Result<(), ImportError> {
        for opset in opsets {
            let domain = domain(&opset.domain);
            if domain.is_empty() && !(OPSETS.0..=OPSETS.1).contains(&opset.version) {
                return Err(ImportError::Opset {
                    found: opset.version,
                });
            }
            self.opsets.insert(domain, opset.version);
        }
        Ok(())
    }

    /// The frame of the body of `function`, called by the node called `name` with `attributes`.
    pub(crate) fn call(
        &self,
        function: &'m FunctionProto,
        attributes: Attributes<'m>,
        name: &str,
    ) -> Result<Frame<'m>, ImportError> {
        let mut frame = self.nested(name);
        frame.import_opsets(&function.opset_import)?;
        frame.attributes = function
            .attribute_proto
            .iter()
            .map(|attribute| (attribute.name.as_str(), attribute))
            .collect();
        frame.attributes.extend(attributes);
        Ok(frame)
    }

    /// The frame of a branch in the node called `name`.
    pub(crate) fn nested(&self, name: &str) -> Frame<'m> {
        let mut frame = self.clone();
        frame.prefix = format!("{name}/");
        frame.depth += 1;
        frame
    }

    /// The version of the operator set of a domain; 0 when the model does not say.
    pub(crate) fn opset(&self, domain: &str) -> i64 {
        self.opsets.get(domain).copied().unwrap_or(0)
    }

    /// The attributes of a node; one that refers to the call's takes its value, if it has one.
    pub(crate) fn resolve(&self, node: &'m NodeProto) -> Attributes<'m> {
        let resolve = |attribute: &'m AttributeProto| -> Option<(&'m str, &'m AttributeProto)> {
            let value = match attribute.ref_attr_name.as_str() {
                "" => attribute,
                name => *self.attributes.get(name)?,
            };
            Some((attribute.name.as_str(), value))
        };
        node.attribute.iter().filter_map(resolve).collect()
    }

    /// How messages and origins call a node: by its name, or by its first result.
    pub(crate) fn name(&self, node: &NodeProto) -> String {
        match (node.name.as_str(), node.output.first()) {
            ("", Some(output)) => format!("{}{}:{output}", self.prefix, node.op_type),
            ("", None) => format!("{}{}", self.prefix, node.op_type),
            (name, _) => format!("{}{name}", self.prefix),
        }
    }
}

/// The default domain has two spellings.
pub(crate) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// Local functions by domain, name and overload.
pub(crate) type Functions<'m> = BTreeMap<(&'m str, &'m str, &'m str), &'m FunctionProto>;

/// The local functions of a model.
pub(crate) fn functions(model: &ModelProto) -> Functions<'_> {
    model
        .functions
        .iter()
        .map(|f| ((domain(&f.domain), f.name.as_str(), f.overload.as_str()), f))
        .collect()
}

/// The function that a node calls, if it calls one.
pub(crate) fn callee<'m>(functions: &Functions<'m>, node: &NodeProto) -> Option<&'m FunctionProto> {
    let key = (
        domain(&node.domain),
        node.op_type.as_str(),
        node.overload.as_str(),
    );
    functions.get(&key).copied()
}

/// Refuses the model if nodes of the graph, or of the functions that it calls, have operators or
/// attributes that the importer does not know. Branches are judged when one is taken.
pub(crate) fn refuse_unsupported(
    graph: &GraphProto,
    functions: &Functions<'_>,
    frame: &Frame<'_>,
) -> Result<(), ImportError> {
    let mut nodes = Vec::new();
    let mut visited = BTreeSet::new();
    let mut open: Vec<(&[NodeProto], Frame<'_>)> = vec![(&graph.node, frame.clone())];
    while let Some((body, frame)) = open.pop() {
        for node in body {
            match callee(functions, node) {
                Some(function) => {
                    let key = (&function.domain, &function.name, &function.overload);
                    if visited.insert(key) {
                        let frame = frame.call(function, Attributes::new(), &frame.name(node))?;
                        open.push((&function.node, frame));
                    }
                }
                None => nodes.extend(unsupported(node, &frame)),
            }
        }
    }
    match nodes.is_empty() {
        true => Ok(()),
        false => Err(ImportError::Unsupported { nodes }),
    }
}

/// What is not supported about a node, if anything.
pub(crate) fn unsupported(node: &NodeProto, frame: &Frame<'_>) -> Option<Unsupported> {
    let domain = domain(&node.domain);
    let opset = frame.opset(domain);
    let refuse = |attribute: Option<String>| Unsupported {
        node: format!("{:?}", frame.name(node)),
        op: node.op_type.clone(),
        domain: if domain.is_empty() { "ai.onnx" } else { domain }.to_owned(),
        opset,
        attribute,
    };
    if domain.is_empty() && node.op_type == "If" {
        return None;
    }
    let Some(operator) = ops::find(domain, &node.op_type).filter(|op| op.since <= opset) else {
        return Some(refuse(None));
    };
    let names = node
        .attribute
        .iter()
        .map(|attribute| attribute.name.as_str());
    let mut unknown = names.filter(|name| !operator.attributes.contains(name));
    unknown.next().map(|name| refuse(Some(name.to_owned())))
}
