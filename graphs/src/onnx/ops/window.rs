//! Operators whose window slides over an image: `Conv` and `AveragePool`.
//!
//! Takes strides, dilations and explicit or automatic padding, gives the IR's operators with every
//! number resolved.

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

/// How a window slides, per spatial axis.
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) before: Vec<usize>,
    pub(super) after: Vec<usize>,
}

pub(crate) fn conv(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let (x, w) = (node.input(0, "X")?, node.input(1, "W")?);
    Ok(vec![convolve(context, node, x, w, node.optional(2))?])
}

/// The convolution of `x` `[batch, channels, spatial…]` with `w` `[features, depth, kernel…]` by
/// the attributes of the node.
pub(super) fn convolve(
    context: &mut Context,
    node: &Node<'_>,
    x: Wire,
    w: Wire,
    bias: Option<Wire>,
) -> Result<Wire> {
    let own = kernel_extents(context, node, x, w)?;
    let window = window(context, node, x, own)?;
    let op = ops::Conv {
        strides: window.strides,
        pads_before: window.before,
        pads_after: window.after,
        dilations: window.dilations,
        groups: groups(node)?,
    };
    let mut operands = vec![x, w];
    operands.extend(bias);
    context.push(op, &operands)
}

/// The attribute `group`.
pub(super) fn groups(node: &Node<'_>) -> Result<usize> {
    let groups = node.int_or("group", 1)?;
    usize::try_from(groups).map_err(|_| node.refuse("group", groups, "at least one group"))
}

/// The spatial extents of the weights `w` of a convolution of `x`.
pub(super) fn kernel_extents(
    context: &Context,
    node: &Node<'_>,
    x: Wire,
    w: Wire,
) -> Result<Vec<usize>> {
    let spatial = spatial_axes(context, x, "X")?;
    if context.rank(w) != spatial + 2 {
        let (found, wanted) = (context.ty(w).to_string(), format!("{} axes", spatial + 2));
        return Err(Problem::Operand {
            name: "W",
            found,
            wanted,
        });
    }
    let own: Result<Vec<usize>> = (2..spatial + 2)
        .map(|axis| context.extent(w, axis))
        .collect();
    let own = own?;
    if own.contains(&0) {
        return Err(Problem::Operand {
            name: "W",
            found: context.ty(w).to_string(),
            wanted: "a kernel of at least one element".to_owned(),
        });
    }
    if let Some(kernel) = node.ints("kernel_shape")?
        && kernel
            .iter()
            .copied()
            .ne(own.iter().map(|&extent| extent as i64))
    {
        let wanted = format!("the extents {own:?} of W");
        return Err(node.refuse("kernel_shape", format!("{kernel:?}"), &wanted));
    }
    Ok(own)
}

/// The window of a pooling of `x`.
pub(super) fn window_of_attribute(
    context: &Context,
    node: &Node<'_>,
    x: Wire,
    spatial: usize,
) -> Result<Window> {
    let kernel = positive(node, "kernel_shape", spatial)?
        .ok_or_else(|| node.refuse("kernel_shape", "missing", "one extent per spatial axis"))?;
    window(context, node, x, kernel)
}

pub(crate) fn average_pool(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let spatial = spatial_axes(context, x, "X")?;
    let window = window_of_attribute(context, node, x, spatial)?;
    let overhang = overhangs(context, node, x, &window)?;
    let op = ops::AveragePool {
        kernel: window.kernel,
        strides: window.strides,
        pads_before: window.before,
        pads_after: window.after,
        overhang,
        dilations: window.dilations,
        count_padding: node.flag("count_include_pad", false)?,
    };
    Ok(vec![context.push(op, &[x])?])
}

/// The places behind the padding that windows reach, per spatial axis.
pub(super) fn overhangs(
    context: &Context,
    node: &Node<'_>,
    x: Wire,
    window: &Window,
) -> Result<Vec<usize>> {
    let axes = 0..window.kernel.len();
    match node.flag("ceil_mode", false)? {
        false => Ok(axes.map(|_| 0).collect()),
        true => axes
            .map(|axis| Ok(overhang_of(window, axis, context.extent(x, axis + 2)?)))
            .collect(),
    }
}

/// The places behind the padding that the last window reaches when their number is rounded up; a
/// window that would begin behind the image is left out.
fn overhang_of(window: &Window, axis: usize, extent: usize) -> usize {
    let reach = reach(window, axis);
    let stride = window.strides[axis];
    let padded = extent
        .saturating_add(window.before[axis])
        .saturating_add(window.after[axis]);
    let Some(span) = padded.checked_sub(reach) else {
        return 0;
    };
    let mut last = span.div_ceil(stride).saturating_mul(stride);
    if last >= extent.saturating_add(window.before[axis]) {
        last = last.saturating_sub(stride);
    }
    last.saturating_add(reach).saturating_sub(padded)
}

/// The extent that a window covers, gaps between its elements included.
pub(super) fn reach(window: &Window, axis: usize) -> usize {
    (window.kernel[axis] - 1)
        .saturating_mul(window.dilations[axis])
        .saturating_add(1)
}

/// The number of spatial axes of `x`.
pub(super) fn spatial_axes(context: &Context, x: Wire, name: &'static str) -> Result<usize> {
    match context.rank(x) {
        rank @ 3.. => Ok(rank - 2),
        _ => Err(Problem::Operand {
            name,
            found: context.ty(x).to_string(),
            wanted: "batch, channels and spatial axes".to_owned(),
        }),
    }
}

/// A list of `count` numbers of at least 1.
pub(super) fn positive(node: &Node<'_>, name: &str, count: usize) -> Result<Option<Vec<usize>>> {
    let Some(list) = node.ints(name)? else {
        return Ok(None);
    };
    numbers(node, name, &list, count, 1).map(Some)
}

/// `list` as `count` numbers of at least `least` and of a sensible size.
pub(super) fn numbers(
    node: &Node<'_>,
    name: &str,
    list: &[i64],
    count: usize,
    least: i64,
) -> Result<Vec<usize>> {
    let range = least..=compiler::value::extents::ELEMENTS_MAX;
    let numbers = list
        .iter()
        .map(|&v| usize::try_from(v).ok().filter(|_| range.contains(&v)));
    let numbers: Option<Vec<usize>> = numbers.collect();
    numbers
        .filter(|numbers| numbers.len() == count)
        .ok_or_else(|| {
            let wanted = format!("{count} numbers of at least {least}");
            node.refuse(name, format!("{list:?}"), &wanted)
        })
}

fn window(context: &Context, node: &Node<'_>, x: Wire, kernel: Vec<usize>) -> Result<Window> {
    let count = kernel.len();
    let strides = positive(node, "strides", count)?.unwrap_or_else(|| vec![1; count]);
    let dilations = positive(node, "dilations", count)?.unwrap_or_else(|| vec![1; count]);
    let auto_pad = node.text_or("auto_pad", "NOTSET")?;
    let (mut before, mut after) = (vec![0; count], vec![0; count]);
    match auto_pad.as_str() {
        "NOTSET" | "" => {
            if let Some(pads) = node.ints("pads")? {
                let pads = numbers(node, "pads", &pads, 2 * count, 0)?;
                before.copy_from_slice(&pads[..count]);
                after.copy_from_slice(&pads[count..]);
            }
        }
        "VALID" => {}
        "SAME_UPPER" | "SAME_LOWER" => {
            for axis in 0..count {
                let reach = (kernel[axis] - 1)
                    .saturating_mul(dilations[axis])
                    .saturating_add(1);
                let extent = &context.shape(x)[axis + 2];
                let total = same_padding(context, x, axis, extent, reach, strides[axis])?;
                let (small, large) = (total / 2, total - total / 2);
                (before[axis], after[axis]) = match auto_pad.as_str() {
                    "SAME_UPPER" => (small, large),
                    _ => (large, small),
                };
            }
        }
        _ => {
            let wanted = "NOTSET, VALID, SAME_UPPER or SAME_LOWER";
            return Err(node.refuse("auto_pad", auto_pad, wanted));
        }
    }
    Ok(Window {
        kernel,
        strides,
        dilations,
        before,
        after,
    })
}

/// The padding with which there are `ceil(extent / stride)` positions.
fn same_padding(
    context: &Context,
    x: Wire,
    axis: usize,
    extent: &Dim,
    reach: usize,
    stride: usize,
) -> Result<usize> {
    if stride == 1 && extent.known().is_none() {
        return Ok(reach - 1);
    }
    let extent = context.extent(x, axis + 2)?;
    let covered = (extent.div_ceil(stride).saturating_sub(1)).saturating_mul(stride);
    Ok(covered.saturating_add(reach).saturating_sub(extent))
}
