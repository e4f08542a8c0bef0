//! A graph of f32 in 16 bits.
//!
//! Takes the operands of a node, returns them in the type that the node computes in. Products of
//! matrices, convolutions and attention take 16 bits, and so does what meets their results; what is
//! computed of inputs before them, or after a cast of the graph to f32, stays f32. Weights are
//! converted at import.

use compiler::DType;

use super::context::{Context, Result, Wire};
use super::error::ImportError;
use super::proto::{GraphProto, NodeProto, element_type};

/// Operators that take 16 bits whatever their operands have.
const PRODUCTS: [&str; 11] = [
    "Attention",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "MatMul",
    "MultiHeadAttention",
    "NhwcConv",
];

/// Operators that move the elements of matrices on their way to a product.
const MOVEMENTS: [&str; 6] = [
    "Gather",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators whose first operand alone decides on the type; others have types of their own.
const FIRST: [&str; 5] = [
    "BatchNormalization",
    "GroupNorm",
    "Pow",
    "Resize",
    "Upsample",
];

/// Operators that give a type to what they are given.
const CASTS: [&str; 2] = ["Cast", "CastLike"];

/// The 16-bit type in which a graph is imported for `wanted`; `None` where it stays as it is.
///
/// # Errors
/// When the graph is not one of f32.
pub(crate) fn of_graph(
    graph: &GraphProto,
    wanted: Option<DType>,
) -> std::result::Result<Option<DType>, ImportError> {
    let own = own_type(graph);
    match wanted {
        Some(wanted) if wanted != own => match own {
            DType::F32 => Ok(Some(wanted)),
            _ => Err(ImportError::Precision { found: own, wanted }),
        },
        Some(_) | None => Ok(None),
    }
}

/// The floating-point type of most of the stored elements.
fn own_type(graph: &GraphProto) -> DType {
    let stored = |dtype: DType| -> i64 {
        let own = graph.initializer.iter();
        let own = own.filter(|tensor| element_type(tensor.data_type) == Some(dtype));
        let elements = own.map(|t| t.dims.iter().fold(1i64, |n, &dim| n.saturating_mul(dim)));
        elements.fold(0, i64::saturating_add)
    };
    let others = [DType::F16, DType::BF16, DType::F64];
    let most = others.into_iter().max_by_key(|&dtype| stored(dtype));
    most.filter(|&dtype| stored(dtype) > stored(DType::F32))
        .unwrap_or(DType::F32)
}

/// The operands of a node of a graph that is imported in `dtype`.
pub(crate) fn operands(
    context: &mut Context,
    dtype: DType,
    node: &NodeProto,
    mut operands: Vec<Option<Wire>>,
) -> Result<Vec<Option<Wire>>> {
    let op = node.op_type.as_str();
    if CASTS.contains(&op) || !is_narrow(context, dtype, op, &operands) {
        return Ok(operands);
    }
    let affected = match FIRST.contains(&op) {
        true => 1,
        false => operands.len(),
    };
    for operand in operands.iter_mut().take(affected) {
        if let Some(wire) = operand.filter(|&wire| context.dtype(wire) == DType::F32) {
            *operand = Some(context.retyped(wire, dtype)?);
        }
    }
    Ok(operands)
}

/// Whether a node computes in `dtype`.
fn is_narrow(context: &Context, dtype: DType, op: &str, operands: &[Option<Wire>]) -> bool {
    if PRODUCTS.contains(&op) {
        return true;
    }
    let first = operands.first().copied().flatten();
    if MOVEMENTS.contains(&op) && first.is_some_and(|first| is_matrix(context, first)) {
        return true;
    }
    let mut computed = operands.iter().flatten();
    computed.any(|&wire| context.dtype(wire) == dtype && !context.is_stored(wire))
}

/// Whether a wire is a weight of two axes or more; a list may be frequencies, which need f32.
fn is_matrix(context: &Context, wire: Wire) -> bool {
    let shape = context.shape(wire);
    context.is_weight(wire) && shape.iter().filter(|dim| !dim.is(1)).count() > 1
}
