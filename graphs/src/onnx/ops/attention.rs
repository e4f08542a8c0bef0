//! `Attention`, and what the operators of other domains share with it.
//!
//! Takes queries, keys and values with or without an axis of heads, masks, and keys of earlier
//! calls; returns the IR's attention, or its steps where a result asks for the scores or they are
//! bounded.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::data::element_type_of;

/// Which keys a query may see, counted in elements from its own position; `None` means unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) left: Option<i64>,
    pub(super) right: Option<i64>,
}

/// Every key up to the query's own place.
pub(super) const CAUSAL: Reach = Reach {
    left: None,
    right: Some(0),
};

/// ONNX `Attention` of opset 25, which holds the earlier ones.
pub(crate) fn attention(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let operands = [
        (node.input(0, "Q")?, "q_num_heads"),
        (node.input(1, "K")?, "kv_num_heads"),
        (node.input(2, "V")?, "kv_num_heads"),
    ];
    let flat = context.rank(operands[0].0) == 3;
    let mut split = Vec::with_capacity(operands.len());
    for (wire, attribute) in operands {
        split.push(match context.rank(wire) {
            3 => {
                let heads = node.int_or(attribute, 0)?;
                with_heads(context, wire, heads).ok_or_else(|| {
                    node.refuse(attribute, heads, "a divisor of the last extent")
                })??
            }
            4 => wire,
            _ => return Err(axes(context, wire, "three or four axes")),
        });
    }
    let [q, mut k, mut v] = split.try_into().expect("three operands");
    let mut before = Dim::from(0);
    for (index, name, wire) in [(4, "past_key", &mut k), (5, "past_value", &mut v)] {
        if let Some(past) = node.optional(index) {
            if context.rank(past) != 4 {
                return Err(axes(context, past, &format!("{name} of four axes")));
            }
            before = context.shape(past)[2].clone();
            *wire = context.push(ops::Concat { axis: 2 }, &[past, *wire])?;
        }
    }
    let present = [k, v];
    let (k, v) = (grouped(context, q, k)?, grouped(context, q, v)?);
    let bound = |name| -> Result<Option<i64>> {
        Ok(Some(node.int_or(name, -1)?).filter(|&bound| bound >= 0))
    };
    let mut reach = Reach {
        left: bound("left_window_size")?,
        right: bound("right_window_size")?,
    };
    if node.flag("is_causal", false)? {
        reach.right = CAUSAL.right;
    }
    let (queries, keys) = (context.shape(q)[2].clone(), context.shape(k)[2].clone());
    let mut mask = match node.optional(3) {
        Some(mask) => Some(padded(context, mask, &keys)?),
        None => None,
    };
    let offset_is_zero = before.is(0) && node.optional(6).is_none();
    let mut offset = context.dims(vec![before]);
    if let Some(lengths) = node.optional(6) {
        let mut column = vec![Dim::from(1); 4];
        column[0].clone_from(&context.shape(q)[0]);
        let lengths = context.reshape(lengths, column)?;
        let own = context.dims(vec![queries.clone()]);
        offset = context.push(ops::Sub, &[lengths, own])?;
        let places = places(context, &keys, vec![keys.clone()])?;
        let valid = context.push(ops::Less, &[places, lengths])?;
        mask = both(context, mask, Some(valid))?;
    }
    let width = context.extent(q, 3)?;
    let form = Form {
        scale: node.float_or("scale", (1.0 / (width as f64).sqrt()) as f32)?,
        softcap: node.float_or("softcap", 0.0)?,
        softmax: match node.int_or("softmax_precision", 0)? {
            0 => None,
            _ => Some(element_type_of(node, "softmax_precision")?),
        },
    };
    let causal = mask.is_none() && offset_is_zero && reach == CAUSAL;
    let mask = match causal && form.softcap == 0.0 && node.results() < 4 {
        true => None,
        false => {
            let within = within(context, &queries, &keys, offset, reach)?;
            both(context, mask, within)?
        }
    };
    let mut scores = None;
    let result = match node.results() {
        4.. => {
            let mode = node.int_or("qk_matmul_output_mode", 0)?;
            let (result, stages) = steps(context, [q, k, v], mask, &form)?;
            let stage = usize::try_from(mode).ok().and_then(|mode| stages.get(mode));
            let wanted = "a mode from 0 to 3";
            scores =
                Some(*stage.ok_or_else(|| node.refuse("qk_matmul_output_mode", mode, wanted))?);
            result
        }
        _ if form.softcap > 0.0 => steps(context, [q, k, v], mask, &form)?.0,
        _ => attend(context, [q, k, v], mask, form.scale, causal)?,
    };
    let result = match flat {
        true => without_heads(context, result)?,
        false => result,
    };
    let results = [result].into_iter().chain(present).chain(scores);
    Ok(results.collect())
}

fn axes(context: &Context, wire: Wire, wanted: &str) -> Problem {
    Problem::Operand {
        name: "Q, K, V",
        found: context.ty(wire).to_string(),
        wanted: wanted.to_owned(),
    }
}

/// `[batch, tokens, heads · d]` as `[batch, heads, tokens, d]`; `None` where the heads do not
/// divide.
pub(super) fn with_heads(context: &mut Context, wire: Wire, heads: i64) -> Option<Result<Wire>> {
    let [batch, tokens, width]: [Dim; 3] = context.shape(wire).try_into().ok()?;
    let heads = Dim::from(Some(heads).filter(|&heads| heads > 0)?);
    let width = width.exact_div(&heads)?;
    let split = context.reshape(wire, vec![batch, tokens, heads, width]);
    Some(split.and_then(|split| context.transpose(split, vec![0, 2, 1, 3])))
}

/// `[batch, heads, tokens, d]` as `[batch, tokens, heads · d]`.
pub(super) fn without_heads(context: &mut Context, wire: Wire) -> Result<Wire> {
    let tokens_first = context.transpose(wire, vec![0, 2, 1, 3])?;
    let shape = context.shape(tokens_first);
    let width = shape[2].mul(&shape[3]);
    context.reshape(
        tokens_first,
        vec![shape[0].clone(), shape[1].clone(), width],
    )
}

/// `x` `[batch, heads, tokens, d]` with each head repeated for its share of the heads of `q`.
fn grouped(context: &mut Context, q: Wire, x: Wire) -> Result<Wire> {
    let (heads, shape) = (context.shape(q)[1].clone(), context.shape(x));
    let Some(share) = heads.exact_div(&shape[1]) else {
        let wanted = format!("a number of heads that divides {heads}");
        return Err(axes(context, x, &wanted));
    };
    if share.is(1) {
        return Ok(x);
    }
    let [batch, own, tokens, d] = [0, 1, 2, 3].map(|axis| shape[axis].clone());
    let one = vec![
        batch.clone(),
        own.clone(),
        1.into(),
        tokens.clone(),
        d.clone(),
    ];
    let split = context.reshape(x, one)?;
    let all = vec![batch.clone(), own, share, tokens.clone(), d.clone()];
    let repeated = context.broadcast(split, all)?;
    context.reshape(repeated, vec![batch, heads, tokens, d])
}

/// A mask for `keys`; keys beyond its last axis are left out.
fn padded(context: &mut Context, mask: Wire, keys: &Dim) -> Result<Wire> {
    let Some(last) = context.rank(mask).checked_sub(1) else {
        return Ok(mask);
    };
    let missing = keys.sub(&context.shape(mask)[last]).known().unwrap_or(0);
    if missing <= 0 || context.shape(mask)[last].is(1) {
        return Ok(mask);
    }
    let least = match context.dtype(mask) {
        DType::Bool => 0.0,
        _ => f64::NEG_INFINITY,
    };
    let border = context.scalar(context.dtype(mask), least);
    let (before, mode) = (vec![0; last + 1], ops::PadMode::Constant);
    let mut after = before.clone();
    after[last] = missing;
    context.push(
        ops::Pad {
            before,
            after,
            mode,
        },
        &[mask, border],
    )
}

/// `0, 1, …` up to `count` in the shape `shape`.
pub(super) fn places(context: &mut Context, count: &Dim, shape: Vec<Dim>) -> Result<Wire> {
    let (length, dtype) = (count.clone(), DType::I64);
    let places = context.push(ops::Iota { length, dtype }, &[])?;
    context.reshape(places, shape)
}

/// Which keys are within reach of the queries, `[…, queries, keys]`; query 0 is at `offset`.
pub(super) fn within(
    context: &mut Context,
    queries: &Dim,
    keys: &Dim,
    offset: Wire,
    reach: Reach,
) -> Result<Option<Wire>> {
    let rows = places(context, queries, vec![queries.clone(), Dim::from(1)])?;
    let columns = places(context, keys, vec![keys.clone()])?;
    let rows = context.push(ops::Add, &[rows, offset])?;
    let mut mask = None;
    if let Some(right) = reach.right {
        let last = context.push_scalar(ops::Add, rows, right as f64)?;
        let seen = context.push(ops::LessEqual, &[columns, last])?;
        mask = both(context, mask, Some(seen))?;
    }
    if let Some(left) = reach.left {
        let first = context.push_scalar(ops::Add, rows, -left as f64)?;
        let seen = context.push(ops::LessEqual, &[first, columns])?;
        mask = both(context, mask, Some(seen))?;
    }
    Ok(mask)
}

/// A mask that allows what both allow; one of floats where one of them is.
pub(super) fn both(
    context: &mut Context,
    a: Option<Wire>,
    b: Option<Wire>,
) -> Result<Option<Wire>> {
    let (Some(a), Some(b)) = (a, b) else {
        return Ok(a.or(b));
    };
    let types = [a, b].map(|mask| context.dtype(mask));
    Ok(Some(match types {
        [DType::Bool, DType::Bool] => context.push(ops::And, &[a, b])?,
        [DType::Bool, dtype] => {
            let a = bias(context, a, dtype, f64::NEG_INFINITY)?;
            context.push(ops::Add, &[a, b])?
        }
        [dtype, DType::Bool] => {
            let b = bias(context, b, dtype, f64::NEG_INFINITY)?;
            context.push(ops::Add, &[a, b])?
        }
        [_, _] => context.push(ops::Add, &[a, b])?,
    }))
}

/// A mask of floats that are 0 where `mask` is true, and `refused` elsewhere.
pub(super) fn bias(context: &mut Context, mask: Wire, dtype: DType, refused: f64) -> Result<Wire> {
    let zero = context.scalar(dtype, 0.0);
    let refused = context.scalar(dtype, refused);
    context.push(ops::Select, &[mask, zero, refused])
}

/// The IR's attention of operands `[batch, heads, tokens, d]`; a query without keys gets zeros.
pub(super) fn attend(
    context: &mut Context,
    [q, k, v]: [Wire; 3],
    mask: Option<Wire>,
    scale: f64,
    causal: bool,
) -> Result<Wire> {
    let op = ops::Attention { scale, causal };
    let Some(mask) = mask else {
        return context.push(op, &[q, k, v]);
    };
    let result = context.push(op, &[q, k, v, mask])?;
    zero_unseen(context, mask, result)
}

/// `x` `[…, queries, d]` with zeros for queries that the mask leaves no key.
fn zero_unseen(context: &mut Context, mask: Wire, x: Wire) -> Result<Wire> {
    let dtype = context.dtype(mask);
    let Some(last) = context.rank(mask).checked_sub(1) else {
        return Ok(x);
    };
    let number = match dtype {
        DType::Bool => context.cast(mask, DType::F32)?,
        _ => mask,
    };
    let (axes, keep) = (vec![last], true);
    let most = context.push(ops::ReduceMax { axes, keep }, &[number])?;
    let none = match dtype {
        DType::Bool => 0.0,
        _ => f64::NEG_INFINITY,
    };
    let none = context.scalar(context.dtype(number), none);
    let unseen = context.push(ops::Equal, &[most, none])?;
    let zero = context.scalar(context.dtype(x), 0.0);
    context.push(ops::Select, &[unseen, zero, x])
}

/// How scores become weights.
struct Form {
    scale: f64,
    /// The bound of the scores; 0 is none.
    softcap: f64,
    /// The type in which weights are computed, if another.
    softmax: Option<DType>,
}

/// Attention step by step, with the scores as computed, bounded, masked, and as weights.
fn steps(
    context: &mut Context,
    [q, k, v]: [Wire; 3],
    mask: Option<Wire>,
    form: &Form,
) -> Result<(Wire, [Wire; 4])> {
    let dtype = context.dtype(q);
    let scaled = context.push_scalar(ops::Mul, q, form.scale)?;
    let k = context.transpose(k, vec![0, 1, 3, 2])?;
    let scores = context.push(ops::Matmul, &[scaled, k])?;
    let mut bounded = scores;
    if form.softcap > 0.0 {
        let ratio = context.push_scalar(ops::Div, scores, form.softcap)?;
        let ratio = context.push(ops::Tanh, &[ratio])?;
        bounded = context.push_scalar(ops::Mul, ratio, form.softcap)?;
    }
    let mask = match mask {
        Some(mask) if context.dtype(mask) == DType::Bool => {
            Some(bias(context, mask, dtype, f64::NEG_INFINITY)?)
        }
        other => other,
    };
    let masked = match mask {
        Some(mask) => context.push(ops::Add, &[bounded, mask])?,
        None => bounded,
    };
    let wide = context.cast(masked, form.softmax.unwrap_or(dtype))?;
    let weights = context.push(ops::Softmax { axis: 3 }, &[wide])?;
    let mut weights = context.cast(weights, dtype)?;
    if let Some(mask) = mask {
        weights = zero_unseen(context, mask, weights)?;
    }
    let result = context.push(ops::Matmul, &[weights, v])?;
    Ok((result, [scores, bounded, masked, weights]))
}
