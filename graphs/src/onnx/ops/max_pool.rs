//! `MaxPool`: the largest element under each window.
//!
//! Takes windows with their padding resolved, returns maxima of strided slices: a maximum over a
//! box is one along each axis after the other. It returns no indices.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::window::{Window, overhangs, reach, spatial_axes, window_of_attribute};

/// Every element of a window along an axis is an operator; no network has longer windows.
const TAPS_MAX: usize = 1024;

pub(crate) fn max_pool(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    if node.results() > 1 {
        return Err(Problem::Result { name: "Indices" });
    }
    let x = node.input(0, "X")?;
    let spatial = spatial_axes(context, x, "X")?;
    let window = window_of_attribute(context, node, x, spatial)?;
    let overhangs = overhangs(context, node, x, &window)?;
    let mut result = padded(context, x, &window, &overhangs)?;
    for axis in 0..spatial {
        result = along(context, node, result, axis, &window)?;
    }
    Ok(vec![result])
}

/// `x` with a border of the least value of its type.
fn padded(context: &mut Context, x: Wire, window: &Window, overhangs: &[usize]) -> Result<Wire> {
    let widths = |spatial: &mut dyn Iterator<Item = usize>| -> Vec<i64> {
        [0, 0]
            .into_iter()
            .chain(spatial.map(|width| width as i64))
            .collect()
    };
    let before = widths(&mut window.before.iter().copied());
    let after = widths(
        &mut window
            .after
            .iter()
            .zip(overhangs)
            .map(|(a, b)| a.saturating_add(*b)),
    );
    if before.iter().chain(&after).all(|&width| width == 0) {
        return Ok(x);
    }
    let dtype = context.dtype(x);
    let least = context.scalar(dtype, least(dtype));
    let mode = ops::PadMode::Constant;
    context.push(
        ops::Pad {
            before,
            after,
            mode,
        },
        &[x, least],
    )
}

/// The least finite value of a type, as WGSL cannot write infinity; integers are clamped.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => -65504.0,
        // The upper half of the largest f32.
        DType::BF16 => -f64::from(f32::from_bits(0x7F7F_0000)),
        DType::F32 | DType::F64 => f64::from(f32::MIN),
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 => f64::NEG_INFINITY,
    }
}

/// The maximum over the window of one spatial axis.
fn along(
    context: &mut Context,
    node: &Node<'_>,
    x: Wire,
    axis: usize,
    window: &Window,
) -> Result<Wire> {
    let stride = window.strides[axis] as i64;
    let room = context.shape(x)[axis + 2].sub(&Dim::from(reach(window, axis)));
    if room.known().is_some_and(|room| room < 0) {
        return Err(Problem::Operand {
            name: "X",
            found: context.ty(x).to_string(),
            wanted: format!(
                "an extent of at least {} on axis {}",
                reach(window, axis),
                axis + 2
            ),
        });
    }
    if window.kernel[axis] > TAPS_MAX {
        let found = format!("{:?}", window.kernel);
        return Err(node.refuse(
            "kernel_shape",
            found,
            "windows of at most 1024 along an axis",
        ));
    }
    let length = room.floor_div(stride).add(&Dim::from(1));
    let mut largest = None;
    for tap in 0..window.kernel[axis] {
        let slice = ops::Slice {
            axis: axis + 2,
            start: Dim::from(tap * window.dilations[axis]),
            length: length.clone(),
            step: stride,
        };
        let slice = context.push(slice, &[x])?;
        largest = Some(match largest {
            None => slice,
            Some(largest) => context.push(ops::Max, &[largest, slice])?,
        });
    }
    Ok(largest.expect("a window has an element"))
}
