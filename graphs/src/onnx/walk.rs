//! From the messages to a function: names, order, calls of local functions, branches.
//!
//! Takes the graph node by node, each after those that it depends on, gives each to its lowering.
//! Functions are inlined, a branch is chosen when its condition is known. Loops, sequences and
//! training parts are refused.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use compiler::DType;
use compiler::graph::TensorType;
use compiler::value::dim::Bindings;
use compiler::value::tensor::Tensor;

use super::context::{Context, Wire};
use super::damage;
use super::error::{ImportError, Problem};
use super::frame::{Frame, Functions, callee, domain, functions, refuse_unsupported, unsupported};
use super::node::{Attributes, Node, tensor_attributes};
use super::order::sort;
use super::precision;
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use super::tensor::{Folder, tensor};
use super::{OnnxModel, Request, Signature, ops};
use crate::Imported;
use crate::source::Source;

/// Initializers of floats with more elements are weights, which stay where they are.
const CONSTANT_ELEMENTS_MAX: usize = 64;

/// Inputs with more elements hold data, not shapes.
const SPECIALISED_ELEMENTS_MAX: usize = 256;

/// Calls and branches nest less deeply in any model.
const DEPTH_MAX: usize = 32;

/// The nodes of a model with its calls inlined: SDXL's UNet has some 10,000.
const NODES_MAX: usize = 1 << 20;

/// Imports the model at `path` of `source`; external data are looked for beside it.
///
/// # Errors
/// When the file is damaged, an operator is not supported (all of them are named), a size depends
/// on data that `request` does not hold, or types do not fit.
pub fn import(
    source: &dyn Source,
    path: &str,
    request: &Request,
) -> Result<OnnxModel, ImportError> {
    let format = |reason: String| ImportError::Format {
        path: path.to_owned(),
        reason,
    };
    let model = read(source, path)?;
    let graph = main_graph(&model, path)?;
    if !graph.sparse_initializer.is_empty() {
        return Err(format("it has sparse initializers".to_owned()));
    }
    let folder = Folder::new(
        source,
        path.rsplit_once('/').map_or("", |(folder, _)| folder),
    );
    let frame = Frame::root(&model.opset_import)?;
    let dtype = precision::of_graph(graph, request.dtype)?;
    let functions = functions(&model);
    refuse_unsupported(graph, &functions, &frame)?;
    let initializers = initializers(graph, &folder)?;
    let mut specialised = BTreeMap::new();
    loop {
        let mut walker = Walker {
            functions: &functions,
            folder: &folder,
            dtype,
            context: Context::new(if graph.name.is_empty() {
                "main"
            } else {
                &graph.name
            }),
            nodes_left: NODES_MAX,
        };
        match walker.graph(graph, &initializers, &frame, request, &specialised) {
            Ok(results) => {
                let finished = walker.context.finish(&results);
                let (func, weights) =
                    finished.map_err(|problem| ImportError::Results { problem })?;
                let imported = Imported { func, weights };
                return Ok(OnnxModel {
                    imported,
                    specialised,
                });
            }
            Err(error) => {
                let more = decisive(&error, &request.inputs, &specialised);
                if more.is_empty() {
                    return Err(error);
                }
                specialised.extend(more);
            }
        }
    }
}

/// The signature of the model at `path` of `source`.
///
/// # Errors
/// When the file is damaged, or an input is no tensor of a declared shape.
pub fn signature(source: &dyn Source, path: &str) -> Result<Signature, ImportError> {
    let model = read(source, path)?;
    let graph = main_graph(&model, path)?;
    let declared = super::signature::inputs(graph, &Bindings::new(), &BTreeMap::new())?;
    let owned = |(name, ty): (&str, TensorType)| (name.to_owned(), ty);
    Ok(Signature {
        inputs: declared.into_iter().map(owned).collect(),
        results: graph.output.iter().map(|own| own.name.clone()).collect(),
    })
}

fn read(source: &dyn Source, path: &str) -> Result<ModelProto, ImportError> {
    let bytes = source.read(path)?;
    ModelProto::decode(bytes.clone()).map_err(|error| damage::described(path, &bytes, &error))
}

fn main_graph<'m>(model: &'m ModelProto, path: &str) -> Result<&'m GraphProto, ImportError> {
    model.graph.as_ref().ok_or_else(|| ImportError::Format {
        path: path.to_owned(),
        reason: "it has no graph".to_owned(),
    })
}

/// The inputs at hand that would let the import go on: integers first, then small floats.
fn decisive(
    error: &ImportError,
    at_hand: &BTreeMap<String, Tensor>,
    specialised: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Tensor> {
    let ImportError::Node {
        problem: Problem::RunTime { inputs, .. },
        ..
    } = error
    else {
        return BTreeMap::new();
    };
    let pick = |float: bool| -> BTreeMap<String, Tensor> {
        inputs
            .iter()
            .filter(|name| !specialised.contains_key(*name))
            .filter_map(|name| Some((name.clone(), at_hand.get(name)?.clone())))
            .filter(|(_, tensor)| tensor.dtype().is_float() == float)
            .filter(|(_, tensor)| tensor.elements() <= SPECIALISED_ELEMENTS_MAX)
            .collect()
    };
    let ints = pick(false);
    if ints.is_empty() { pick(true) } else { ints }
}

/// The initializers with their names, in the file's order.
fn initializers<'m>(
    graph: &'m GraphProto,
    folder: &Folder<'_>,
) -> Result<Vec<(&'m str, Tensor)>, ImportError> {
    let read = |proto: &'m TensorProto| match tensor(proto, folder) {
        Ok(tensor) => Ok((proto.name.as_str(), tensor)),
        Err(problem) => Err(ImportError::Tensor {
            name: proto.name.clone(),
            problem,
        }),
    };
    graph.initializer.iter().map(read).collect()
}

/// Wires by name, the innermost body last; `None` for an operand that a call leaves out.
type Scope<'m> = Vec<BTreeMap<&'m str, Option<Wire>>>;

struct Walker<'m, 'w> {
    functions: &'w Functions<'m>,
    folder: &'w Folder<'w>,
    /// The type in which the graph computes instead of f32.
    dtype: Option<DType>,
    context: Context,
    /// How many more nodes are lowered before the model counts as hostile.
    nodes_left: usize,
}

impl<'m> Walker<'m, '_> {
    /// Walks the main graph; gives its results.
    fn graph(
        &mut self,
        graph: &'m GraphProto,
        initializers: &[(&'m str, Tensor)],
        frame: &Frame<'m>,
        request: &Request,
        specialised: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Wire)>, ImportError> {
        let mut scope: Scope<'m> = vec![BTreeMap::new()];
        for (name, ty) in super::signature::inputs(graph, &request.bindings, &request.inputs)? {
            self.context.at(name);
            let wire = self
                .context
                .input(name, ty, specialised.get(name).cloned())?;
            define(&mut scope, name, wire, || format!("input {name:?}"))?;
        }
        let given: BTreeSet<&str> = scope[0].keys().copied().collect();
        for (name, tensor) in initializers {
            if !given.contains(name) {
                let wire = self.stored(name, tensor.clone());
                define(&mut scope, name, wire, || format!("initializer {name:?}"))?;
            }
        }
        self.body(&graph.node, &mut scope, frame)?;
        let names = graph.output.iter().map(|output| &output.name);
        let mut wires = results(&scope, names.clone(), || {
            "an output of the graph".to_owned()
        })?;
        for (output, wire) in graph.output.iter().zip(&mut wires) {
            let declared = super::signature::element(output).unwrap_or(DType::F32);
            if self.dtype == Some(self.context.dtype(*wire)) {
                let cast = self.context.cast(*wire, declared);
                *wire = cast.map_err(|problem| ImportError::Results { problem })?;
            }
        }
        Ok(names.cloned().zip(wires).collect())
    }

    /// A tensor of the file: a constant when small or of integers, otherwise a weight.
    fn stored(&mut self, name: &str, tensor: Tensor) -> Wire {
        match tensor.dtype().is_float() && tensor.elements() > CONSTANT_ELEMENTS_MAX {
            true => self.context.weight(name, tensor),
            false => self.context.constant(tensor),
        }
    }

    fn body(
        &mut self,
        nodes: &'m [NodeProto],
        scope: &mut Scope<'m>,
        frame: &Frame<'m>,
    ) -> Result<(), ImportError> {
        let nodes = sort(nodes).map_err(|cycle| ImportError::Cycle {
            nodes: cycle.into_iter().map(|node| frame.name(node)).collect(),
        })?;
        for node in nodes {
            let name = frame.name(node);
            let limit = match (self.nodes_left, frame.depth > DEPTH_MAX) {
                (0, _) => Some("a million nodes"),
                (_, true) => Some("32 nested calls"),
                (_, false) => None,
            };
            if let Some(limit) = limit {
                return Err(ImportError::Expansion {
                    node: quote(&name),
                    limit,
                });
            }
            self.nodes_left -= 1;
            let inputs = node.input.iter().map(|input| {
                let found = lookup(scope, input);
                if input.is_empty() {
                    return Ok(None);
                }
                found.ok_or_else(|| ImportError::Undefined {
                    user: quote(&name),
                    value: input.clone(),
                })
            });
            let inputs: Vec<Option<Wire>> = inputs.collect::<Result<_, _>>()?;
            self.context.at(&name);
            let results = self.node(node, inputs, scope, frame, &name)?;
            for (output, wire) in node.output.iter().zip(results) {
                if !output.is_empty() {
                    define(scope, output, wire, || quote(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Lowers one node; gives its results, at least as many as are named.
    fn node(
        &mut self,
        proto: &'m NodeProto,
        inputs: Vec<Option<Wire>>,
        scope: &mut Scope<'m>,
        frame: &Frame<'m>,
        name: &str,
    ) -> Result<Vec<Wire>, ImportError> {
        let domain = domain(&proto.domain);
        let opset = frame.opset(domain);
        let attributes = frame.resolve(proto);
        let fail = |problem: Problem| at_node(&quote(name), &proto.op_type, opset, problem);
        let results = if let Some(function) = callee(self.functions, proto) {
            self.call(function, &inputs, &frame.call(function, attributes, name)?)?
        } else if domain.is_empty() && proto.op_type == "If" {
            self.branch(&inputs, &attributes, scope, frame, name)?
        } else {
            let mut tensors = BTreeMap::new();
            for (key, value) in tensor_attributes(&attributes) {
                let value = tensor(value, self.folder);
                tensors.insert(key, value.map_err(|problem| fail(problem.into()))?);
            }
            if let Some(problem) = unsupported(proto, frame) {
                return Err(ImportError::Unsupported {
                    nodes: vec![problem],
                });
            }
            let operator = ops::find(domain, &proto.op_type).expect("supported, so in the list");
            let inputs = match self.dtype {
                None => inputs,
                Some(dtype) => {
                    let narrow = precision::operands(&mut self.context, dtype, proto, inputs);
                    narrow.map_err(fail)?
                }
            };
            let node = Node {
                proto,
                opset,
                inputs,
                attributes,
                tensors,
            };
            match (operator.name, node.tensor("value")) {
                // A dense constant may be as large as any weight.
                ("Constant", Some(tensor)) => {
                    let output = proto.output.first().map_or("", String::as_str);
                    let name = format!("{}{output}", frame.prefix);
                    vec![self.stored(&name, tensor.clone())]
                }
                (_, _) => (operator.lower)(&mut self.context, &node).map_err(fail)?,
            }
        };
        let wanted = proto.output.iter().rposition(|name| !name.is_empty());
        let wanted = wanted.map_or(0, |last| last + 1);
        if results.len() < wanted {
            return Err(fail(Problem::Results {
                found: results.len(),
                wanted,
            }));
        }
        Ok(results)
    }

    /// Inlines a call.
    fn call(
        &mut self,
        function: &'m FunctionProto,
        inputs: &[Option<Wire>],
        frame: &Frame<'m>,
    ) -> Result<Vec<Wire>, ImportError> {
        let mut names = BTreeMap::new();
        for (index, name) in function.input.iter().enumerate() {
            names.insert(name.as_str(), inputs.get(index).copied().flatten());
        }
        let mut scope: Scope<'m> = vec![names];
        self.body(&function.node, &mut scope, frame)?;
        results(&scope, function.output.iter(), || {
            format!("function {:?}", function.name)
        })
    }

    /// Inlines the branch that the condition chooses.
    fn branch(
        &mut self,
        inputs: &[Option<Wire>],
        attributes: &Attributes<'m>,
        scope: &mut Scope<'m>,
        frame: &Frame<'m>,
        name: &str,
    ) -> Result<Vec<Wire>, ImportError> {
        let fail = |problem| at_node(&quote(name), "If", frame.opset(""), problem);
        let condition = inputs.first().copied().flatten();
        let condition = condition
            .ok_or(Problem::MissingOperand { name: "cond" })
            .map_err(fail)?;
        let taken = self.context.int_of(condition, "cond").map_err(fail)?;
        let key = if taken != 0 {
            "then_branch"
        } else {
            "else_branch"
        };
        let body = attributes
            .get(key)
            .and_then(|attribute| attribute.g.as_ref());
        let body = body.ok_or_else(|| {
            fail(Problem::Attribute {
                name: key.to_owned(),
                found: "missing".to_owned(),
                wanted: "a graph".to_owned(),
            })
        })?;
        let frame = frame.nested(name);
        scope.push(BTreeMap::new());
        for (key, tensor) in initializers(body, self.folder)? {
            let wire = self.stored(&format!("{}{key}", frame.prefix), tensor);
            define(scope, key, wire, || format!("initializer {key:?}"))?;
        }
        self.body(&body.node, scope, &frame)?;
        let names = body.output.iter().map(|output| &output.name);
        let wires = results(scope, names, || quote(name));
        scope.pop();
        wires
    }
}

fn quote(name: &str) -> String {
    format!("node {name:?}")
}

fn at_node(node: &str, op: &str, opset: i64, problem: Problem) -> ImportError {
    ImportError::Node {
        node: node.to_owned(),
        op: op.to_owned(),
        opset,
        problem,
    }
}

/// The wire called `name`; the outer option tells whether the name is defined.
fn lookup(scope: &Scope<'_>, name: &str) -> Option<Option<Wire>> {
    scope
        .iter()
        .rev()
        .find_map(|names| names.get(name))
        .copied()
}

/// The wires that a body gives under these names.
fn results<'a>(
    scope: &Scope<'_>,
    names: impl Iterator<Item = &'a String>,
    user: impl Fn() -> String,
) -> Result<Vec<Wire>, ImportError> {
    let result = |name: &String| {
        lookup(scope, name)
            .flatten()
            .ok_or_else(|| ImportError::Undefined {
                user: user(),
                value: name.clone(),
            })
    };
    names.map(result).collect()
}

fn define<'m>(
    scope: &mut Scope<'m>,
    name: &'m str,
    wire: Wire,
    by: impl Fn() -> String,
) -> Result<(), ImportError> {
    let names = scope.last_mut().expect("a scope has a body");
    match names.insert(name, Some(wire)) {
        None => Ok(()),
        Some(_) => Err(ImportError::Redefined {
            by: by(),
            value: name.to_owned(),
        }),
    }
}
