//! `ConvTranspose`: a convolution backwards.
//!
//! Takes paddings, or the extents of the result from which they follow, returns the IR's operator
//! with its extents resolved; what lies beyond the last window is zero.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::node::Node;

use super::window::{groups, kernel_extents, numbers, positive};

pub(crate) fn conv_transpose(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, w) = (node.input(0, "X")?, node.input(1, "W")?);
    let kernel = kernel_extents(context, node, x, w)?;
    let count = kernel.len();
    let strides = positive(node, "strides", count)?.unwrap_or_else(|| vec![1; count]);
    let dilations = positive(node, "dilations", count)?.unwrap_or_else(|| vec![1; count]);
    let extra = match node.ints("output_padding")? {
        Some(list) if !list.is_empty() => numbers(node, "output_padding", &list, count, 0)?,
        _ => vec![0; count],
    };
    let paddings = paddings(context, node, x, &strides)?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let (mut extents, mut beyond) = (Vec::new(), Vec::new());
    for axis in 0..count {
        let positions = context.shape(x)[axis + 2].sub(&Dim::from(1));
        let reach = (kernel[axis] - 1)
            .saturating_mul(dilations[axis])
            .saturating_add(1);
        let covered = positions
            .mul(&Dim::from(strides[axis]))
            .add(&Dim::from(reach));
        let (first, last, surplus) = match &paddings {
            Paddings::Given(first, last) => (first[axis], last[axis], extra[axis]),
            Paddings::Extents { extents, upper } => {
                let wanted = extents[axis] as i64;
                let total = covered.add(&Dim::from(extra[axis])).sub(&Dim::from(wanted));
                let total = crate::onnx::context::int(&total, "the padding")?;
                let padding = total.max(0) as usize;
                let small = padding / 2;
                let (first, last) = match upper {
                    true => (small, padding - small),
                    false => (padding - small, small),
                };
                (first, last, extra[axis] + (-total).max(0) as usize)
            }
        };
        // A surplus of a stride or more would make room for another window.
        let within = surplus.min(strides[axis] - 1);
        let extent = covered.sub(&Dim::from(first)).sub(&Dim::from(last));
        extents.push(extent.add(&Dim::from(within)));
        beyond.push((surplus - within) as i64);
        before.push(first);
        after.push(last);
    }
    let op = ops::ConvTranspose {
        strides,
        pads_before: before,
        pads_after: after,
        dilations,
        groups: groups(node)?,
        extents,
    };
    let mut result = context.push(op, &[x, w])?;
    if beyond.iter().any(|&width| width > 0) {
        let after = [0, 0].into_iter().chain(beyond).collect();
        let (before, mode) = (vec![0; count + 2], ops::PadMode::Constant);
        result = context.push(
            ops::Pad {
                before,
                after,
                mode,
            },
            &[result],
        )?;
    }
    if let Some(bias) = node.optional(2) {
        let mut shape = vec![Dim::from(1); count + 1];
        shape[0] = context.shape(result)[1].clone();
        let bias = context.reshape(bias, shape)?;
        result = context.push(ops::Add, &[result, bias])?;
    }
    Ok(vec![result])
}

/// What decides on the padding.
enum Paddings {
    /// The numbers before the first and after the last element, per spatial axis.
    Given(Vec<usize>, Vec<usize>),
    /// The spatial extents of the result, and whether an odd rest goes to the end.
    Extents { extents: Vec<usize>, upper: bool },
}

/// ONNX `ConvTranspose`: `output_shape` outranks `pads`, and `SAME` means `extent · stride`.
fn paddings(context: &Context, node: &Node<'_>, x: Wire, strides: &[usize]) -> Result<Paddings> {
    let count = strides.len();
    let auto_pad = node.text_or("auto_pad", "NOTSET")?;
    let upper = auto_pad == "SAME_UPPER";
    if let Some(list) = node.ints("output_shape")?.filter(|list| !list.is_empty()) {
        // Some exporters write the batch and the channels too.
        let list = list
            .get(list.len().saturating_sub(count)..)
            .unwrap_or_default();
        let extents = numbers(node, "output_shape", list, count, 1)?;
        return Ok(Paddings::Extents { extents, upper });
    }
    match auto_pad.as_str() {
        "NOTSET" | "" => {
            let pads = node.ints("pads")?.unwrap_or_else(|| vec![0; 2 * count]);
            let pads = numbers(node, "pads", &pads, 2 * count, 0)?;
            Ok(Paddings::Given(
                pads[..count].to_vec(),
                pads[count..].to_vec(),
            ))
        }
        "VALID" => Ok(Paddings::Given(vec![0; count], vec![0; count])),
        "SAME_UPPER" | "SAME_LOWER" => {
            let extent =
                |axis: usize| Ok(context.extent(x, axis + 2)?.saturating_mul(strides[axis]));
            let extents: Result<Vec<usize>> = (0..count).map(extent).collect();
            let extents = extents?;
            Ok(Paddings::Extents { extents, upper })
        }
        _ => {
            let wanted = "NOTSET, VALID, SAME_UPPER or SAME_LOWER";
            Err(node.refuse("auto_pad", auto_pad, wanted))
        }
    }
}
