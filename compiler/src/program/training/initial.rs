//! What a parameter begins with that nobody trained.

/// The distribution of a parameter's first values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// One number everywhere.
    Constant(f64),
    /// Uniform from `−bound` to `bound`.
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
}
