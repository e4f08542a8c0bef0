//! Why there is no training step.

use compiler::graph::autodiff::GradientError;
use compiler::graph::{GraphError, TensorType};
use compiler::program::training::LayoutError;
use thiserror::Error;

/// Why there is no training step.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OptimizerError {
    /// The numbers of a function do not fit each other.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The loss has no gradient.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// Parameters have no layout, or do not fit it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A weight whose size is not known.
    #[error("parameter {name:?} has type {ty}, wanted known extents")]
    Unknown {
        /// The parameter.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// The function is not a step.
    #[error("{func:?} has no {what}, which a training step needs")]
    NotAStep {
        /// The function.
        func: String,
        /// What is missing.
        what: &'static str,
    },
    /// A setting that has no meaning.
    #[error("{name} is {found}, wanted {wanted}")]
    Setting {
        /// The option.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        wanted: &'static str,
    },
}
