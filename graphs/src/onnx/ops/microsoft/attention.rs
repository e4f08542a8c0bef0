//! Attention over tokens whose projections are packed.
//!
//! Takes tokens `[batch, tokens, width]`, returns the IR's attention. Masks of integers keep a key
//! where they are not 0; keys and values of earlier calls are refused.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::super::attention::{
    CAUSAL, attend, bias, both, places, with_heads, within, without_heads,
};

/// What is added to the score of a key that a mask leaves out.
const MASK_FILTER: f32 = -10000.0;

/// Attention of one operand, projected by packed weights `[width, q + k + v]`.
pub(crate) fn attention(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    for (index, name) in [(4, "past"), (6, "past_sequence_length")] {
        refuse_operand(node, index, name)?;
    }
    if node.flag("do_rotary", false)? {
        return Err(node.refuse("do_rotary", 1, "0"));
    }
    if node.results() > 1 {
        return Err(Problem::Result { name: "present" });
    }
    let (x, weights) = (node.input(0, "input")?, node.input(1, "weights")?);
    tokens(context, x, "input")?;
    let mut packed = context.push(ops::Matmul, &[x, weights])?;
    if let Some(bias) = node.optional(2) {
        packed = context.push(ops::Add, &[packed, bias])?;
    }
    let width = context.extent(packed, 2)?;
    let sizes: Vec<usize> = match node.ints("qkv_hidden_sizes")? {
        Some(list) if !list.is_empty() => list
            .iter()
            .filter_map(|&size| usize::try_from(size).ok())
            .collect(),
        _ => vec![width / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().try_fold(0, |a: usize, &b| a.checked_add(b)) != Some(width)
    {
        let wanted = format!("three sizes with the sum {width}");
        return Err(node.refuse("qkv_hidden_sizes", format!("{sizes:?}"), &wanted));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        let part = context.slice(packed, 2, Dim::from(start), Dim::from(size))?;
        parts.push(heads(context, node, part)?);
        start += size;
    }
    let operands = parts.try_into().expect("three sizes");
    attended(context, node, operands, node.optional(3), node.optional(5))
}

/// Attention of operands that are projected already; keys and values may be packed, or have heads.
pub(crate) fn multi_head_attention(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let names = [
        "past_key",
        "past_value",
        "past_sequence_length",
        "cache_indirection",
    ];
    for (index, name) in (6..).zip(names) {
        refuse_operand(node, index, name)?;
    }
    if node.results() > 1 {
        let names = ["present_key", "present_value", "qk"];
        let name = names[(node.results() - 2).min(2)];
        return Err(Problem::Result { name });
    }
    let query = node.input(0, "query")?;
    let (key, value) = (node.optional(1), node.optional(2));
    let parts = match (context.rank(query), key, value) {
        // [batch, tokens, heads, 3, d]
        (5, None, None) => unpacked(context, query, 3)?,
        // [batch, tokens, heads, 2, d]
        (3, Some(pair), None) if context.rank(pair) == 5 => {
            [vec![query], unpacked(context, pair, 2)?].concat()
        }
        (3, Some(key), Some(value)) => vec![query, key, value],
        (_, _, _) => {
            return Err(Problem::Operand {
                name: "query",
                found: context.ty(query).to_string(),
                wanted: "tokens with keys and values, or all three packed".to_owned(),
            });
        }
    };
    let mut start = Dim::from(0);
    let mut operands = Vec::with_capacity(parts.len());
    for mut part in parts {
        if context.rank(part) == 4 {
            // A key of another network: it has heads, and no bias.
            operands.push(part);
            continue;
        }
        tokens(context, part, "query, key, value")?;
        if let Some(bias) = node.optional(3) {
            let width = context.shape(part)[2].clone();
            let own = context.slice(bias, 0, start.clone(), width.clone())?;
            part = context.push(ops::Add, &[part, own])?;
            start = start.add(&width);
        }
        operands.push(heads(context, node, part)?);
    }
    let operands = operands.try_into().expect("three parts");
    attended(context, node, operands, node.optional(4), node.optional(5))
}

fn refuse_operand(node: &Node<'_>, index: usize, name: &'static str) -> Result<()> {
    match node.optional(index) {
        None => Ok(()),
        Some(_) => Err(Problem::Operand {
            name,
            found: "given".to_owned(),
            wanted: "it to be left out".to_owned(),
        }),
    }
}

/// Refuses what is not `[batch, tokens, width]`.
fn tokens(context: &Context, wire: Wire, name: &'static str) -> Result<()> {
    match context.rank(wire) {
        3 => Ok(()),
        _ => Err(Problem::Operand {
            name,
            found: context.ty(wire).to_string(),
            wanted: "batch, tokens and width".to_owned(),
        }),
    }
}

fn heads(context: &mut Context, node: &Node<'_>, wire: Wire) -> Result<Wire> {
    let heads = node.int_or("num_heads", 0)?;
    let refuse = || node.refuse("num_heads", heads, "a divisor of the width of the tokens");
    with_heads(context, wire, heads).ok_or_else(refuse)?
}

/// `[batch, tokens, heads, count, d]` as `count` times `[batch, tokens, heads · d]`.
fn unpacked(context: &mut Context, wire: Wire, count: usize) -> Result<Vec<Wire>> {
    let shape = context.shape(wire);
    let width = shape[2].mul(&shape[4]);
    let part = |index: usize| {
        let part = context.slice(wire, 3, Dim::from(index), Dim::from(1))?;
        context.reshape(
            part,
            vec![shape[0].clone(), shape[1].clone(), width.clone()],
        )
    };
    (0..count).map(part).collect()
}

/// The attention of operands `[batch, heads, tokens, d]`, as tokens.
fn attended(
    context: &mut Context,
    node: &Node<'_>,
    operands: [Wire; 3],
    mask: Option<Wire>,
    scores: Option<Wire>,
) -> Result<Vec<Wire>> {
    let [q, k, _] = operands;
    let dtype = context.dtype(q);
    let (queries, keys) = (context.shape(q)[2].clone(), context.shape(k)[2].clone());
    let mut total = scores;
    if let Some(mask) = mask {
        let kept = kept(context, mask, &keys)?;
        let filter = f64::from(node.float_or("mask_filter_value", MASK_FILTER)? as f32);
        let mask = bias(context, kept, dtype, filter)?;
        total = both(context, total, Some(mask))?;
    }
    let unidirectional = node.flag("unidirectional", false)?;
    let causal = unidirectional && total.is_none();
    if unidirectional && !causal {
        let zero = context.dims(vec![Dim::from(0)]);
        let seen = within(context, &queries, &keys, zero, CAUSAL)?;
        total = both(context, total, seen)?;
    }
    let width = context.extent(q, 3)?;
    let scale = match node.float_or("scale", 0.0)? {
        0.0 => 1.0 / (width as f64).sqrt(),
        scale => scale,
    };
    let result = attend(context, operands, total, scale, causal)?;
    Ok(vec![without_heads(context, result)?])
}

/// The keys that a mask of integers keeps, `[batch, 1, 1 or queries, keys]`.
fn kept(context: &mut Context, mask: Wire, keys: &Dim) -> Result<Wire> {
    let shape = context.shape(mask);
    let one = || Dim::from(1);
    let wide = match shape.as_slice() {
        // The number of keys that count.
        [batch] => {
            let lengths = context.reshape(mask, vec![batch.clone(), one(), one(), one()])?;
            let lengths = context.cast(lengths, DType::I64)?;
            let places = places(context, keys, vec![keys.clone()])?;
            return context.push(ops::Less, &[places, lengths]);
        }
        [batch, all] => vec![batch.clone(), one(), one(), all.clone()],
        [batch, queries, all] => vec![batch.clone(), one(), queries.clone(), all.clone()],
        _ => {
            return Err(Problem::Operand {
                name: "mask",
                found: context.ty(mask).to_string(),
                wanted: "[batch], [batch, keys] or [batch, queries, keys]".to_owned(),
            });
        }
    };
    let mask = context.cast(mask, DType::Bool)?;
    context.reshape(mask, wide)
}
