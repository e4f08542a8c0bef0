//! Bytes that lie elsewhere, such as in a file, and are read when they are needed.

use std::fmt::Debug;

use bytes::Bytes;
use thiserror::Error;

/// Where the bytes of a tensor lie.
pub trait Stored: Debug + Send + Sync {
    /// A copy of the bytes.
    ///
    /// # Errors
    /// When they cannot be read in full, or changed since they were first looked at.
    fn read(&self) -> Result<Bytes, ReadError>;
}

/// Why stored bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read {file}: {reason}")]
pub struct ReadError {
    /// Where they lie.
    pub file: String,
    /// What is wrong.
    pub reason: String,
}
