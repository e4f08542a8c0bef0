//! Why there is no step, or no numbers for one.

use compiler::graph::GraphError;
use compiler::passes::InlineError;
use thiserror::Error;

use crate::optimizer::OptimizerError;

/// Why there is no step, or no numbers for one.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DistillError {
    /// The numbers of networks and sizes do not fit each other.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The bodies do not fit their calls, or have one name.
    #[error(transparent)]
    Inline(#[from] InlineError),
    /// The student's weights have no layout.
    #[error(transparent)]
    Layout(#[from] OptimizerError),
    /// A method needs a network that was not given.
    #[error("{method} needs a teacher, but none was given")]
    NoTeacher {
        /// The method.
        method: &'static str,
    },
    /// A network is not one that a step can call.
    #[error("network {func:?} has {found}, expected {wanted}")]
    Interface {
        /// The function.
        func: String,
        /// What is there.
        found: String,
        /// What the step needs.
        wanted: &'static str,
    },
    /// A method that is not in the table.
    #[error("there is no method {name:?}, expected one of {}", known.join(", "))]
    Method {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A number that a method needs and that was not drawn.
    #[error("no {name} were drawn")]
    NotDrawn {
        /// The draw.
        name: &'static str,
    },
    /// A setting that has no meaning.
    #[error("{name} is {found}, expected {wanted}")]
    Setting {
        /// The option.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// A number that no draw may give.
    #[error("sample {sample} has {name} {found}, expected {wanted}")]
    Sample {
        /// Its place in the batch.
        sample: usize,
        /// What was drawn.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        wanted: String,
    },
}
