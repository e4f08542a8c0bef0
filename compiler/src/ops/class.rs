//! What operators are to a kernel: its anchor of some kind, a part of an epilogue, or a movement
//! that an access map takes.
//!
//! Gives the kinds and their names; each operator says its own in its file.

/// What an operator, or the anchor of a region, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// An element of the result depends on nothing but the attributes and the operands' elements
    /// at its own place, stretched operands apart.
    Pointwise,
    /// Moves elements.
    Movement,
    /// Sums products over one axis.
    Gemm,
    /// Sums products over windows.
    Conv,
    /// Attention.
    Attention,
    /// Reduces rows, or normalises them by what it reduced.
    Row,
    /// Reads or writes where data says.
    Gather,
    /// Anything else, computed by plain loops.
    Plain,
}

impl Class {
    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Class::Pointwise => "pointwise",
            Class::Movement => "movement",
            Class::Gemm => "gemm",
            Class::Conv => "conv",
            Class::Attention => "attention",
            Class::Row => "row",
            Class::Gather => "gather",
            Class::Plain => "plain",
        }
    }
}
