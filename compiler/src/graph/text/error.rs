//! Why text is not a graph, and where.
//!
//! Holds places as lines and columns; it never reads text.

use thiserror::Error;

use crate::graph::builder::GraphError;
use crate::graph::types::TensorType;
use crate::ops::AttributeError;
use crate::value::tensor::TensorError;

/// Why text is not a graph, and where. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct ParseError {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong there.
    pub fault: ParseFault,
}

/// What is wrong at a place of a text.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ParseFault {
    /// Something else should be written there.
    #[error("found {found}, wanted {wanted}")]
    Syntax {
        /// What is written there.
        found: String,
        /// What could be.
        wanted: &'static str,
    },
    /// A shape or an extent that no graph has.
    #[error("found an extent too long or too many axes, wanted those of a tensor")]
    Intricate,
    /// No operator has that name.
    #[error("found {name:?}, wanted the name of an operator")]
    Operator {
        /// The name found.
        name: String,
    },
    /// The attributes are not those of the operator.
    #[error("{op}: {source}")]
    Attributes {
        /// The operator.
        op: String,
        /// What is wrong with them.
        source: AttributeError,
    },
    /// The elements do not fill a tensor's shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The graph is ill typed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The type written is not the one inferred.
    #[error("found type {found}, wanted {wanted} as inferred")]
    Type {
        /// The type written.
        found: TensorType,
        /// The type inferred.
        wanted: TensorType,
    },
}
