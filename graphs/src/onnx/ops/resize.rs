//! `Resize` and `Upsample`: gathers for the nearest element, matrices of weights for the rest.
//!
//! Takes scales or sizes that are known at import, gives `upsample_nearest` where that is what
//! happens, otherwise one gather or one product per axis.

use compiler::DType;
use compiler::ops;
use compiler::value::dim::Dim;
use compiler::value::tensor::{Tensor, Values};

use crate::onnx::context::{Context, Result, Wire, symbolic};
use crate::onnx::error::Problem;
use crate::onnx::node::{Node, axes};

use super::resample::{Axis, Coordinates, Filter, Nearest};

/// A matrix of weights with more entries would dwarf the image.
const MATRIX_ELEMENTS_MAX: usize = 1 << 24;

/// How an image is resized.
struct Mode {
    coordinates: Coordinates,
    /// `None`: the nearest element.
    filter: Option<Filter>,
    nearest: Nearest,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f64,
}

/// What becomes of one axis.
#[derive(Debug, Clone)]
struct Change {
    axis: usize,
    input: Dim,
    output: Dim,
    /// Known when scales are given, or both extents.
    scale: Option<f64>,
    region: (f64, f64),
}

pub(crate) fn resize(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    if node.opset == 10 {
        let scales = context.floats_of(node.input(1, "scales")?, "scales")?;
        return legacy(context, node, x, scales);
    }
    let mode = mode(node)?;
    let rank = context.rank(x);
    let axes = match node.ints("axes")? {
        Some(list) => axes(&list, rank, "axes")?,
        None => (0..rank).collect(),
    };
    let mut changes = changes(context, node, x, &axes)?;
    if mode.coordinates == Coordinates::CropAndResize {
        let roi = context.floats_of(node.input(1, "roi")?, "roi")?;
        check_count("roi", roi.len(), 2 * axes.len())?;
        for (index, change) in changes.iter_mut().enumerate() {
            change.region = (roi[index], roi[index + axes.len()]);
        }
    }
    resized(context, x, changes, &mode).map(|wire| vec![wire])
}

/// `Upsample`: scales as an attribute (opset 7) or an operand.
pub(crate) fn upsample(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let x = node.input(0, "X")?;
    let scales = match node.floats("scales")? {
        Some(scales) => scales.into_iter().map(f64::from).collect(),
        None => context.floats_of(node.input(1, "scales")?, "scales")?,
    };
    legacy(context, node, x, scales)
}

/// Before opset 11: the nearest element below, or linear between; places are `index / scale`.
fn legacy(context: &mut Context, node: &Node<'_>, x: Wire, scales: Vec<f64>) -> Result<Vec<Wire>> {
    let name = node.text_or("mode", "nearest")?;
    let filter = match name.as_str() {
        "nearest" => None,
        "linear" | "bilinear" => Some(Filter::Linear),
        _ => return Err(node.refuse("mode", name, "nearest or linear")),
    };
    let mode = Mode {
        coordinates: Coordinates::Asymmetric,
        filter,
        nearest: Nearest::Floor,
        antialias: false,
        exclude_outside: false,
        extrapolation: 0.0,
    };
    let axes: Vec<usize> = (0..context.rank(x)).collect();
    let changes = scaled(context, x, &axes, &scales)?;
    resized(context, x, changes, &mode).map(|wire| vec![wire])
}

fn mode(node: &Node<'_>) -> Result<Mode> {
    let name = node.text_or("coordinate_transformation_mode", "half_pixel")?;
    let coordinates = match name.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::CropAndResize,
        _ => return Err(node.refuse("coordinate_transformation_mode", name, "a mode of opset 19")),
    };
    let name = node.text_or("mode", "nearest")?;
    let filter = match name.as_str() {
        "nearest" => None,
        "linear" => Some(Filter::Linear),
        "cubic" => Some(Filter::Cubic {
            a: node.float_or("cubic_coeff_a", -0.75)?,
        }),
        _ => return Err(node.refuse("mode", name, "nearest, linear or cubic")),
    };
    let name = node.text_or("nearest_mode", "round_prefer_floor")?;
    let nearest = match name.as_str() {
        "round_prefer_floor" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        _ => return Err(node.refuse("nearest_mode", name, "a rounding of opset 11")),
    };
    let antialias = node.flag("antialias", false)?;
    if antialias && filter.is_none() {
        return Err(node.refuse("antialias", "set for nearest", "linear or cubic"));
    }
    Ok(Mode {
        coordinates,
        filter,
        nearest,
        antialias,
        exclude_outside: node.flag("exclude_outside", false)?,
        extrapolation: node.float_or("extrapolation_value", 0.0)?,
    })
}

fn check_count(name: &'static str, found: usize, wanted: usize) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (format!("{found} numbers"), format!("{wanted}"));
    Err(Problem::Operand {
        name,
        found,
        wanted,
    })
}

/// What the operands `scales` or `sizes` say.
fn changes(context: &Context, node: &Node<'_>, x: Wire, axes: &[usize]) -> Result<Vec<Change>> {
    // An empty tensor stands for an operand that is left out.
    let given = |wire: &Wire| context.ty(*wire).shape != [Dim::from(0)];
    if let Some(scales) = node.optional(2).filter(given) {
        let scales = context.floats_of(scales, "scales")?;
        return scaled(context, x, axes, &scales);
    }
    let sizes = node
        .optional(3)
        .filter(given)
        .ok_or(Problem::MissingOperand { name: "sizes" })?;
    let sizes = context.sizes_of(sizes, "sizes")?;
    check_count("sizes", sizes.len(), axes.len())?;
    let shape = context.shape(x);
    let mut changes: Vec<Change> = axes
        .iter()
        .zip(sizes)
        .map(|(&axis, output)| {
            let input = shape[axis].clone();
            let scale = match (input.known(), output.known()) {
                (Some(input), Some(output)) => Some(output as f64 / input as f64),
                (_, _) => None,
            };
            Change {
                axis,
                input,
                output,
                scale,
                region: (0.0, 1.0),
            }
        })
        .collect();
    let policy = node.text_or("keep_aspect_ratio_policy", "stretch")?;
    let pick: fn(f64, f64) -> f64 = match policy.as_str() {
        "stretch" => return Ok(changes),
        "not_larger" => f64::min,
        "not_smaller" => f64::max,
        _ => return Err(node.refuse("keep_aspect_ratio_policy", policy, "a policy of opset 18")),
    };
    let scales: Result<Vec<f64>> = changes
        .iter()
        .map(|change| {
            change
                .scale
                .ok_or_else(|| symbolic("the extent", &change.input))
        })
        .collect();
    let Some(scale) = scales?.into_iter().reduce(pick) else {
        return Ok(changes);
    };
    for change in &mut changes {
        let input = change
            .input
            .known()
            .expect("a known scale has known extents");
        change.output = Dim::from((scale * input as f64 + 0.5) as i64);
        change.scale = Some(scale);
    }
    Ok(changes)
}

fn scaled(context: &Context, x: Wire, axes: &[usize], scales: &[f64]) -> Result<Vec<Change>> {
    check_count("scales", scales.len(), axes.len())?;
    let shape = context.shape(x);
    let change = |(&axis, &scale): (&usize, &f64)| {
        let input = shape[axis].clone();
        if !(scale > 0.0 && scale.is_finite()) {
            let (found, wanted) = (scale.to_string(), "positive numbers".to_owned());
            return Err(Problem::Operand {
                name: "scales",
                found,
                wanted,
            });
        }
        let output = match input.known() {
            Some(input) => Dim::from((input as f64 * scale).floor() as i64),
            None if scale.fract() == 0.0 => input.mul(&Dim::from(scale as i64)),
            None => return Err(symbolic(&format!("the extent of axis {axis}"), &input)),
        };
        Ok(Change {
            axis,
            input,
            output,
            scale: Some(scale),
            region: (0.0, 1.0),
        })
    };
    axes.iter().zip(scales).map(change).collect()
}

fn resized(context: &mut Context, x: Wire, changes: Vec<Change>, mode: &Mode) -> Result<Wire> {
    let crops = mode.coordinates == Coordinates::CropAndResize;
    let stays = |change: &Change| {
        let same = change.input == change.output && change.scale.is_none_or(|scale| scale == 1.0);
        same && (!crops || change.region == (0.0, 1.0))
    };
    let changes: Vec<Change> = changes
        .into_iter()
        .filter(|change| !stays(change))
        .collect();
    if let Some(size) = upsampling(context, x, &changes, mode) {
        return context.push(ops::UpsampleNearest { size }, &[x]);
    }
    let mut result = x;
    let mut masks = Vec::new();
    for change in &changes {
        let known = |dim: &Dim| {
            dim.extent()
                .ok_or_else(|| symbolic(&format!("the extent of axis {}", change.axis), dim))
        };
        let (input, output) = (known(&change.input)?, known(&change.output)?);
        let axis = Axis {
            coordinates: mode.coordinates,
            input,
            output,
            scale: change.scale.unwrap_or(output as f64 / input as f64),
            region: change.region,
        };
        if input == 0 || input.saturating_mul(output) > MATRIX_ELEMENTS_MAX {
            return Err(Problem::Operand {
                name: "X",
                found: format!(
                    "{input} elements that become {output} on axis {}",
                    change.axis
                ),
                wanted: "a sensible image".to_owned(),
            });
        }
        result = match mode.filter {
            None => picked(context, result, change.axis, &axis.nearest(mode.nearest))?,
            Some(filter) => {
                let matrix = axis.matrix(filter, mode.antialias, mode.exclude_outside);
                weighted(context, result, change.axis, &axis, matrix)?
            }
        };
        masks.push((change.axis, axis.outside()));
    }
    for (axis, mask) in masks {
        result = extrapolated(context, result, axis, mask, mode.extrapolation)?;
    }
    Ok(result)
}

/// The spatial extents of the result, if each of its elements is `x[floor(index · in / out)]`.
fn upsampling(context: &Context, x: Wire, changes: &[Change], mode: &Mode) -> Option<Vec<Dim>> {
    let mut shape = context.shape(x);
    let spatial = changes.iter().all(|change| change.axis >= 2);
    if changes.is_empty() || !spatial || shape.len() < 3 || mode.filter.is_some() {
        return None;
    }
    for change in changes {
        if !rounds_down(change, mode) {
            return None;
        }
        shape[change.axis] = change.output.clone();
    }
    Some(shape.split_off(2))
}

/// Whether the nearest element is `floor(index · in / out)` for every index.
fn rounds_down(change: &Change, mode: &Mode) -> bool {
    if let (Some(input @ 1..), Some(output)) = (change.input.extent(), change.output.extent()) {
        if output > MATRIX_ELEMENTS_MAX {
            return false;
        }
        let axis = Axis {
            coordinates: mode.coordinates,
            input,
            output,
            scale: change.scale.unwrap_or(output as f64 / input as f64),
            region: change.region,
        };
        let wanted = (0..output).map(|index| index * input / output);
        return axis.nearest(mode.nearest).into_iter().eq(wanted);
    }
    let whole = change
        .output
        .exact_div(&change.input)
        .is_some_and(|n| n.extent() >= Some(1));
    match (mode.coordinates, mode.nearest) {
        (Coordinates::Asymmetric, Nearest::Floor) => whole || change.scale.is_none(),
        // (i + 1/2) / n − 1/2 is less than 1/2 away from floor(i / n).
        (
            Coordinates::HalfPixel
            | Coordinates::HalfPixelSymmetric
            | Coordinates::PytorchHalfPixel,
            Nearest::RoundPreferFloor | Nearest::RoundPreferCeil,
        ) => whole,
        (
            Coordinates::HalfPixel
            | Coordinates::HalfPixelSymmetric
            | Coordinates::PytorchHalfPixel
            | Coordinates::AlignCorners
            | Coordinates::Asymmetric
            | Coordinates::CropAndResize,
            Nearest::RoundPreferFloor | Nearest::RoundPreferCeil | Nearest::Floor | Nearest::Ceil,
        ) => false,
    }
}

fn picked(context: &mut Context, x: Wire, axis: usize, indices: &[usize]) -> Result<Wire> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let indices = context.ints(&indices);
    context.push(ops::Gather { axis }, &[x, indices])
}

/// The product of `x` with the matrix `[output, input]` along `at`.
fn weighted(
    context: &mut Context,
    x: Wire,
    at: usize,
    axis: &Axis,
    matrix: Vec<f64>,
) -> Result<Wire> {
    let (rank, dtype) = (context.rank(x), context.dtype(x));
    let shape = [axis.output, axis.input];
    let matrix = Tensor::from_values(dtype, &shape, &Values::Float(matrix));
    let matrix = context.constant(matrix);
    if rank >= 2 && at == rank - 2 {
        return context.push(ops::Matmul, &[matrix, x]);
    }
    // Otherwise the axis goes last, against the transposed matrix.
    let turned = context.transpose(matrix, vec![1, 0])?;
    let mut permutation: Vec<usize> = (0..rank).filter(|&axis| axis != at).collect();
    permutation.push(at);
    let mut back = vec![0; rank];
    for (to, &from) in permutation.iter().enumerate() {
        back[from] = to;
    }
    let last = context.transpose(x, permutation)?;
    let last = match rank {
        1 => {
            let row = context.shape(last)[0].clone();
            context.reshape(last, vec![Dim::from(1), row])?
        }
        _ => last,
    };
    let result = context.push(ops::Matmul, &[last, turned])?;
    match rank {
        1 => context.reshape(result, vec![Dim::from(axis.output)]),
        _ => context.transpose(result, back),
    }
}

/// `x` with a number in place of the positions that lie outside along an axis.
fn extrapolated(
    context: &mut Context,
    x: Wire,
    axis: usize,
    mask: Vec<bool>,
    number: f64,
) -> Result<Wire> {
    if !mask.contains(&true) {
        return Ok(x);
    }
    let mut shape = vec![1; context.rank(x)];
    shape[axis] = mask.len();
    let mask = Tensor::from_values(DType::Bool, &shape, &Values::Bool(mask));
    let mask = context.constant(mask);
    let number = context.scalar(context.dtype(x), number);
    context.push(ops::Select, &[mask, number, x])
}
