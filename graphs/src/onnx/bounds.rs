//! What the importer reads at most.

/// The opsets of the default domain that are read: 28 is the newest of onnx 1.23.
pub const OPSETS: (i64, i64) = (1, 28);

/// Tensors with more axes are refused: no model has them, and arithmetic on them explodes.
pub const RANK_MAX: usize = 16;
