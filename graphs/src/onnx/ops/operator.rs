//! What a list of operators consists of.
//!
//! Takes a name, the first opset, the attributes that are read and a lowering; lists nothing.

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

/// A lowering: the results of a node.
pub(crate) type Lower = fn(&mut Context, &Node<'_>) -> Result<Vec<Wire>>;

/// An operator that is imported.
pub(crate) struct Operator {
    /// Its name.
    pub(crate) name: &'static str,
    /// The first opset that is read: older ones broadcast differently, or say too little.
    pub(crate) since: i64,
    /// The attributes that the lowering reads, in any opset.
    pub(crate) attributes: &'static [&'static str],
    /// The lowering.
    pub(crate) lower: Lower,
}

/// An operator of these parts.
pub(crate) const fn op(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    lower: Lower,
) -> Operator {
    Operator {
        name,
        since,
        attributes,
        lower,
    }
}

/// The attributes of a window that slides.
pub(crate) const WINDOW: &[&str] = &[
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
];
