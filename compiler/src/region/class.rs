//! What each operator is to a region: an anchor of some kind, a node of an epilogue, or a step
//! of an access map.
//!
//! Takes an operator, gives its class; the one table that says so.

use crate::ops::Op;
use crate::region::Anchor;

/// What an operator, or the anchor of a region, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// One element of the result for one of each operand.
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

/// The class of an operator.
pub fn class(op: &Op) -> Class {
    match op {
        Op::Abs(_)
        | Op::Add(_)
        | Op::And(_)
        | Op::Cast(_)
        | Op::Ceil(_)
        | Op::Cos(_)
        | Op::Div(_)
        | Op::Equal(_)
        | Op::Erf(_)
        | Op::Exp(_)
        | Op::Floor(_)
        | Op::Gelu(_)
        | Op::IsNan(_)
        | Op::Less(_)
        | Op::LessEqual(_)
        | Op::Max(_)
        | Op::Min(_)
        | Op::Mul(_)
        | Op::Neg(_)
        | Op::Not(_)
        | Op::Or(_)
        | Op::Pow(_)
        | Op::Reciprocal(_)
        | Op::Relu(_)
        | Op::Select(_)
        | Op::Sigmoid(_)
        | Op::Silu(_)
        | Op::Sin(_)
        | Op::Sqrt(_)
        | Op::Sub(_)
        | Op::Tanh(_) => Class::Pointwise,
        // Its two halves are read by two access maps.
        Op::Geglu(_) => Class::Pointwise,
        Op::Broadcast(_)
        | Op::Concat(_)
        | Op::Pad(_)
        | Op::Reshape(_)
        | Op::Slice(_)
        | Op::Transpose(_)
        | Op::UpsampleNearest(_) => Class::Movement,
        Op::Linear(_) | Op::Matmul(_) => Class::Gemm,
        Op::Conv(_) => Class::Conv,
        Op::Attention(_) => Class::Attention,
        Op::Argmax(_)
        | Op::GroupNorm(_)
        | Op::LayerNorm(_)
        | Op::ReduceMax(_)
        | Op::ReduceMean(_)
        | Op::ReduceSum(_)
        | Op::Softmax(_) => Class::Row,
        Op::Gather(_) | Op::GatherNd(_) | Op::ScatterNd(_) => Class::Gather,
        Op::AveragePool(_) | Op::Constant(_) | Op::Cumsum(_) | Op::Iota(_) | Op::Trilu(_) => {
            Class::Plain
        }
    }
}

impl Anchor {
    /// The class of a region with this anchor.
    pub fn class(&self) -> Class {
        match self {
            Anchor::Pointwise => Class::Pointwise,
            Anchor::Op { op, .. } => class(op),
            Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => Class::Row,
        }
    }
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
