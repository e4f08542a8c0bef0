//! Why a function cannot be executed.

use compiler::graph::eval::EvalError;
use compiler::value::stored::ReadError;
use thiserror::Error;

/// Why a function cannot be executed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExecuteError {
    /// A parameter is not as the function declares it, a size is not bound, or an operator met
    /// data outside of its domain.
    #[error(transparent)]
    Graph(#[from] EvalError),
    /// A weight cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system gives no threads.
    #[error("cannot start {wanted} threads: {reason}")]
    Threads {
        /// The number wanted; 0 for one per core.
        wanted: usize,
        /// What the system says.
        reason: String,
    },
    /// The operating system gives no memory.
    #[error("cannot reserve {bytes} bytes of memory for {what}")]
    Memory {
        /// The number wanted.
        bytes: u64,
        /// What they are for.
        what: &'static str,
    },
}
