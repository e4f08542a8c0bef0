//! Why text is not a graph, and where.
//!
//! Holds places as lines and columns; it never reads text.

use thiserror::Error;

use crate::graph::builder::GraphError;
use crate::graph::types::TensorType;
use crate::ops::AttributeError;
use crate::value::tensor::TensorError;

/// Why text is not a graph. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ParseError {
    /// Something else should be written here.
    #[error("line {line}, column {column}: found {found}, wanted {wanted}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// What is written there.
        found: String,
        /// What could be.
        wanted: &'static str,
    },
    /// A shape or an extent that no graph has.
    #[error(
        "line {line}, column {column}: found an extent too long or too many axes, \
         wanted those of a tensor"
    )]
    Intricate {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// No operator has that name.
    #[error("line {line}, column {column}: found {name:?}, wanted the name of an operator")]
    Operator {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// The name found.
        name: String,
    },
    /// The attributes are not those of the operator.
    #[error("line {line}, column {column}: {op}: {source}")]
    Attributes {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// The operator.
        op: String,
        /// What is wrong with them.
        source: AttributeError,
    },
    /// The elements do not fill a tensor's shape.
    #[error("line {line}, column {column}: {source}")]
    Tensor {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// What is wrong.
        source: TensorError,
    },
    /// The graph is ill typed.
    #[error("line {line}, column {column}: {source}")]
    Graph {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// What is wrong.
        source: GraphError,
    },
    /// The type written is not the one inferred.
    #[error("line {line}, column {column}: found type {found}, wanted {wanted} as inferred")]
    Type {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// The type written.
        found: TensorType,
        /// The type inferred.
        wanted: TensorType,
    },
}
