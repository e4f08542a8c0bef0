//! Why an ONNX model is not imported: what was found, what was wanted, at which node.

use compiler::DType;
use compiler::graph::GraphError;
use compiler::value::tensor::TensorError;
use thiserror::Error;

use crate::source::SourceError;

/// Why a model is not imported.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ImportError {
    /// A file cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The bytes are no ONNX model.
    #[error("{path:?} is not an ONNX model: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends before the field that it begins does, as after a download that was cut.
    #[error("{path:?} is incomplete: it has {found} bytes, expected at least {wanted}")]
    Incomplete {
        /// The file.
        path: String,
        /// Its size in bytes.
        found: usize,
        /// The size in bytes that its fields tell.
        wanted: usize,
    },
    /// The model speaks a version of the operators that is not known.
    #[error("found opset {found} of the default domain, wanted {} to {}", super::bounds::OPSETS.0, super::bounds::OPSETS.1)]
    Opset {
        /// The version.
        found: i64,
    },
    /// A graph whose type cannot be changed.
    #[error("weights are {found}, wanted f32 to compile the graph in {wanted}")]
    Precision {
        /// The type of its weights.
        found: DType,
        /// The type asked for.
        wanted: DType,
    },
    /// Operators that the importer does not have, all of them.
    #[error("found unsupported operators: {}", list(.nodes))]
    Unsupported {
        /// The nodes.
        nodes: Vec<Unsupported>,
    },
    /// A tensor that is not what its header says.
    #[error("tensor {name:?}: {problem}")]
    Tensor {
        /// The name of the initializer.
        name: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// An input of the graph that cannot be one.
    #[error("input {name:?} has {found}, wanted {wanted}")]
    Input {
        /// The input.
        name: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A node, or the graph, uses a value that nothing defines.
    #[error("{user} uses the value {value:?}, which nothing defines")]
    Undefined {
        /// Who uses it.
        user: String,
        /// The value.
        value: String,
    },
    /// Nodes that depend on their own results.
    #[error("found a cycle of nodes, each of which uses a result of the next: {}", listed(.nodes))]
    Cycle {
        /// The nodes; the last one uses a result of the first.
        nodes: Vec<String>,
    },
    /// A value is defined twice.
    #[error("{by} defines the value {value:?} a second time")]
    Redefined {
        /// Who defines it again.
        by: String,
        /// The value.
        value: String,
    },
    /// Calls of functions or branches nest too deeply, or expand to too many nodes.
    #[error("{node} expands to more than {limit}")]
    Expansion {
        /// The node.
        node: String,
        /// The limit passed.
        limit: &'static str,
    },
    /// A node cannot be imported.
    #[error("{node} ({op}, opset {opset}): {problem}")]
    Node {
        /// The node.
        node: String,
        /// Its operator with its domain.
        op: String,
        /// The version of its operator set.
        opset: i64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// An input cannot be declared.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The results cannot be given.
    #[error("outputs of the graph: {problem}")]
    Results {
        /// What is wrong with one.
        problem: Problem,
    },
}

impl ImportError {
    /// What to do about it, if that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            ImportError::Precision { found, wanted } => Some(format!(
                "compile the graph in {found}, or export it in f32 or {wanted}"
            )),
            ImportError::Format { path, .. } | ImportError::Incomplete { path, .. } => {
                Some(format!("download or export {path:?} again"))
            }
            ImportError::Source(_)
            | ImportError::Opset { .. }
            | ImportError::Unsupported { .. }
            | ImportError::Tensor { .. }
            | ImportError::Input { .. }
            | ImportError::Undefined { .. }
            | ImportError::Cycle { .. }
            | ImportError::Redefined { .. }
            | ImportError::Expansion { .. }
            | ImportError::Node { .. }
            | ImportError::Graph(_)
            | ImportError::Results { .. } => None,
        }
    }
}

/// An operator that the importer does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{op} of domain {domain:?} (opset {opset}) at {node}{}", match .attribute {
    Some(attribute) => format!(" with attribute {attribute:?}"),
    None => String::new(),
})]
pub struct Unsupported {
    /// The node.
    pub node: String,
    /// The operator.
    pub op: String,
    /// Its domain; `ai.onnx` is the default.
    pub domain: String,
    /// The version of its operator set; 0 when the model does not say.
    pub opset: i64,
    /// The attribute that is not supported, if the operator is.
    pub attribute: Option<String>,
}

/// Named in full up to this many; the rest is counted.
const NAMED_MAX: usize = 12;

fn list(nodes: &[Unsupported]) -> String {
    shorten(nodes.iter().map(ToString::to_string))
}

fn listed(nodes: &[String]) -> String {
    shorten(nodes.iter().map(|name| format!("node {name:?}")))
}

fn shorten(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let named: Vec<String> = names.by_ref().take(NAMED_MAX).collect();
    match names.len() {
        0 => named.join(", "),
        rest => format!("{} and {rest} more", named.join(", ")),
    }
}

/// What is wrong with a tensor of the file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TensorProblem {
    /// An element type that the compiler does not have.
    #[error("found {found}, wanted a type that the compiler has")]
    Type {
        /// The type's name.
        found: String,
    },
    /// An extent below zero, or above what memory can address.
    #[error("found shape {dims:?}, wanted extents that memory can hold")]
    Shape {
        /// The extents.
        dims: Vec<i64>,
    },
    /// More axes than any model has.
    #[error("found {found} axes, wanted at most {}", super::bounds::RANK_MAX)]
    Rank {
        /// The number of axes.
        found: usize,
    },
    /// Data and header disagree.
    #[error(transparent)]
    Data(#[from] TensorError),
    /// The number of elements listed is not that of the shape.
    #[error("found {found} elements for shape {shape:?}")]
    Elements {
        /// Elements listed.
        found: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// The description of external data is not understood.
    #[error("external data has {key} {value:?}, wanted a path, offsets and lengths in bytes")]
    ExternalEntry {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// External data lies outside of its file.
    #[error(
        "{path:?} is incomplete: it has {file_bytes} bytes, expected at least {}",
        u128::from(*.offset) + u128::from(*.length)
    )]
    ExternalRange {
        /// The file.
        path: String,
        /// The size of the file.
        file_bytes: usize,
        /// Where the data begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// The file of external data cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Problem {
    /// An operand is left out.
    #[error("operand {name:?} is missing")]
    MissingOperand {
        /// Its name in the operator's specification.
        name: &'static str,
    },
    /// An operand, or what it holds, does not fit.
    #[error("operand {name:?} is {found}, wanted {wanted}")]
    Operand {
        /// Its name in the operator's specification.
        name: &'static str,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// An attribute does not fit.
    #[error("attribute {name:?} is {found}, wanted {wanted}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// What an operand holds decides on the program, and only the run tells it.
    #[error(
        "operand {name:?} must be known when compiling, but depends on the contents of {}: \
         give them when compiling", names(.inputs)
    )]
    RunTime {
        /// The operand's name in the operator's specification.
        name: &'static str,
        /// The inputs and weights on which it depends.
        inputs: Vec<String>,
    },
    /// A size must be a number, and a symbol is not bound.
    #[error("{what} is {found}, wanted an integer: bind {}", names(.symbols))]
    Symbolic {
        /// What the size is for.
        what: String,
        /// The expression.
        found: String,
        /// The symbols in it.
        symbols: Vec<String>,
    },
    /// More results are wanted than the operator has.
    #[error("{wanted} results are used, the operator has {found} here")]
    Results {
        /// Results that the operator gives.
        found: usize,
        /// Results that the node names.
        wanted: usize,
    },
    /// An optional result is used that the importer does not have.
    #[error("result {name:?} is used, wanted it to be left out")]
    Result {
        /// Its name in the operator's specification.
        name: &'static str,
    },
    /// A tensor in an attribute is not what its header says.
    #[error(transparent)]
    Tensor(#[from] TensorProblem),
    /// An operator of the graph IR refuses its operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An operator of the graph IR refuses its operands.
    #[error("{op}({operands}): {violation}{}", match .symbols.is_empty() {
        true => String::new(),
        false => format!("\nsizes that are fixed when compiling may fit: bind {}", names(.symbols)),
    })]
    Constraint {
        /// The operator of the graph IR.
        op: &'static str,
        /// The types of its operands.
        operands: String,
        /// The symbols in those types.
        symbols: Vec<String>,
        /// The constraint.
        violation: compiler::ops::Violation,
    },
}

fn names(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}
