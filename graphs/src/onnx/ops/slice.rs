//! `Slice` and `Split`: parts of a tensor along axes.
//!
//! Takes bounds that are known up to symbols, gives slices within bounds: negative and
//! out-of-range bounds are resolved here. A symbolic end is taken to lie within the axis; the IR
//! checks that when the symbols are bound.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire, int, symbolic};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes, axis};

pub(crate) fn slice(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let mut x = node.input(0, "data")?;
    let rank = context.rank(x);
    let from_attributes = node.has("starts");
    let list = |name: &'static str, index: usize| -> Result<Option<Vec<Dim>>> {
        match (from_attributes, node.optional(index)) {
            (true, _) => Ok(node
                .ints(name)?
                .map(|v| v.into_iter().map(Dim::from).collect())),
            (false, Some(wire)) => context.sizes_of(wire, name).map(Some),
            (false, None) => Ok(None),
        }
    };
    let starts = list("starts", 1)?.ok_or(Problem::MissingOperand { name: "starts" })?;
    let ends = list("ends", 2)?.ok_or(Problem::MissingOperand { name: "ends" })?;
    let count = starts.len();
    let axes = match list("axes", 3)? {
        Some(list) => {
            let ints: Result<Vec<i64>> = list.iter().map(|dim| int(dim, "an axis")).collect();
            axes(&ints?, rank, "axes")?
        }
        None => (0..count).collect(),
    };
    let steps: Vec<i64> = match (from_attributes, node.optional(4)) {
        (false, Some(wire)) => context.ints_of(wire, "steps")?,
        (_, _) => vec![1; count],
    };
    if ends.len() != count || axes.len() != count || steps.len() != count || count > rank {
        return Err(Problem::Operand {
            name: "starts",
            found: format!(
                "{count} starts, {} ends, {} axes, {} steps for {}",
                ends.len(),
                axes.len(),
                steps.len(),
                context.ty(x)
            ),
            wanted: "one of each per axis that is cut".to_owned(),
        });
    }
    for index in 0..count {
        let (axis, step) = (axes[index], steps[index]);
        if step == 0 || step == i64::MIN {
            return Err(Problem::Operand {
                name: "steps",
                found: step.to_string(),
                wanted: "a step other than 0".to_owned(),
            });
        }
        let extent = context.shape(x)[axis].clone();
        let (start, length) = bounds(&extent, &starts[index], &ends[index], step)?;
        if step != 1 || !start.is(0) || length != extent {
            x = context.push(
                ops::Slice {
                    axis,
                    start,
                    length,
                    step,
                },
                &[x],
            )?;
        }
    }
    Ok(vec![x])
}

/// The first index and the number of elements of `start..end` by `step` on an axis of `extent`.
fn bounds(extent: &Dim, start: &Dim, end: &Dim, step: i64) -> Result<(Dim, Dim)> {
    // Backwards, "before the first" is a bound of its own: −1.
    let (least, most) = match step > 0 {
        true => (Dim::from(0), extent.clone()),
        false => (Dim::from(-1), extent.sub(&Dim::from(1))),
    };
    let first = resolve(extent, start, &Dim::from(0), &most)?;
    let last = resolve(extent, end, &least, &most)?;
    let (span, stride) = match step > 0 {
        true => (last.sub(&first), step),
        false => (first.sub(&last), -step),
    };
    let length = span
        .add(&Dim::from(stride.saturating_sub(1)))
        .floor_div(stride);
    match length.known() {
        Some(..=0) => Ok((Dim::from(0), Dim::from(0))),
        // A symbolic end within the axis is checked by the IR once the symbols are bound.
        Some(_) | None => Ok((first, length)),
    }
}

/// A bound as an index: counted from the end when negative, clamped to `least..=most`.
fn resolve(extent: &Dim, bound: &Dim, least: &Dim, most: &Dim) -> Result<Dim> {
    let at_least = |a: &Dim, b: &Dim| a.sub(b).lower_bound().is_some_and(|bound| bound >= 0);
    let zero = Dim::from(0);
    let index = if at_least(bound, &zero) {
        bound.clone()
    } else if at_least(&Dim::from(-1), bound) {
        extent.add(bound)
    } else {
        return Err(symbolic("a bound of the slice, whose sign matters,", bound));
    };
    if at_least(&index, most) {
        return Ok(most.clone());
    }
    if at_least(least, &index) {
        return Ok(least.clone());
    }
    Ok(index)
}

/// Parts by given lengths, or equal ones of which the last may be shorter.
pub(crate) fn split(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "input")?;
    let axis = axis(node.int_or("axis", 0)?, context.rank(x), "axis")?;
    let extent = context.shape(x)[axis].clone();
    let lengths = match (node.ints("split")?, node.optional(1)) {
        (Some(list), _) => list.into_iter().map(Dim::from).collect(),
        (None, Some(wire)) => context.sizes_of(wire, "split")?,
        (None, None) => {
            let parts = node.int_or("num_outputs", node.proto.output.len() as i64)?;
            equal_lengths(&extent, parts, node)?
        }
    };
    let sum = lengths
        .iter()
        .fold(Dim::from(0), |sum, length| sum.add(length));
    if sum != extent || lengths.iter().any(|l| l.known().is_some_and(|l| l < 0)) {
        return Err(Problem::Operand {
            name: "split",
            found: format!("lengths that sum to {sum}"),
            wanted: format!("lengths of at least 0 that sum to {extent}"),
        });
    }
    let mut start = Dim::from(0);
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        parts.push(context.slice(x, axis, start.clone(), length.clone())?);
        start = start.add(&length);
    }
    Ok(parts)
}

fn equal_lengths(extent: &Dim, parts: i64, node: &Node<'_>) -> Result<Vec<Dim>> {
    if parts < 1 || parts as usize > node.proto.output.len() {
        return Err(node.refuse("num_outputs", parts, "the number of results"));
    }
    if let Some(length) = extent.exact_div(&Dim::from(parts)) {
        return Ok(vec![length; parts as usize]);
    }
    let extent = int(extent, "the extent that is split")?;
    let length = extent.saturating_add(parts - 1) / parts;
    let part = |index: i64| (extent - index.saturating_mul(length)).clamp(0, length);
    Ok((0..parts).map(|index| Dim::from(part(index))).collect())
}
