//! Contractions as matrix products: linear layers, products of matrices, convolutions.
//!
//! Takes a region whose anchor sums products, gives the views of its factors over
//! `[batch, planes, rows, depth]` and of its outputs: one program serves them all. Nothing is
//! chosen here.

use crate::DType;
use crate::ops::{Conv, ConvTranspose, ConvWeightGradient, Op};
use crate::region::access::Step;
use crate::region::{Access, Bound, Index, Region, Scope};
use crate::tile::outputs::{Domain, OutputViews, outputs, pairing};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::value::tensor::{Tensor, Values};

/// A product of matrices.
#[derive(Debug, Clone)]
pub(super) struct Contraction {
    /// `[batch, rows, depth]`.
    pub(super) left: View,
    /// `[batch, planes, columns, depth]`.
    pub(super) right: View,
    /// How the results are stored.
    pub(super) outputs: Vec<OutputViews>,
    pub(super) batch: usize,
    pub(super) planes: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

impl Contraction {
    /// Whether both factors are of one type of 16 bits.
    pub(super) fn is_narrow(&self) -> bool {
        let [left, right] = [&self.left, &self.right].map(|view| view.access.dtype);
        left == right && matches!(left, DType::F16 | DType::BF16)
    }

    /// The product of `left` and `right` whose result is walked along `axes`.
    fn new(
        axes: &Axes,
        planes: usize,
        left: View,
        right: View,
        outputs: Vec<OutputViews>,
    ) -> Contraction {
        let count = |extents: &[usize]| extents.iter().product::<usize>();
        Contraction {
            depth: count(left.columns()),
            left,
            right,
            outputs,
            batch: count(&axes.batch),
            planes,
            rows: count(&axes.rows),
            columns: count(&axes.columns) / planes,
        }
    }
}

/// See the card.
///
/// # Errors
/// With the reason, when the region is none, or its epilogue is not element by element.
pub(super) fn contraction(region: RegionRef<'_>) -> Result<Contraction, String> {
    let op = region.anchor.op().ok_or("the anchor sums no products")?;
    let found = match op {
        Op::Linear(_) => linear(region)?,
        Op::Matmul(_) => matmul(region)?,
        Op::Conv(conv) => convolution(region, conv)?,
        Op::ConvTranspose(transpose) => transposed(region, transpose)?,
        Op::ConvWeightGradient(gradient) => weight_gradient(region, gradient)?,
        other => return Err(format!("{} sums no products", other.name())),
    };
    match [found.batch, found.rows, found.columns, found.planes].contains(&0) {
        true => Err("the result is empty".to_owned()),
        false => Ok(Contraction {
            left: found.left.unfolded(region.regions),
            right: found.right.unfolded(region.regions),
            ..found
        }),
    }
}

/// Whether side reductions need rows of one image to stay apart.
pub(super) fn by_image(region: &Region) -> bool {
    region.outputs.iter().any(|output| output.moments.is_some())
}

fn linear(region: RegionRef<'_>) -> Result<Contraction, String> {
    let (x, w) = (&region.operands[0], &region.operands[1]);
    let (depth, leading) = x.shape.split_last().ok_or("the operand is a number")?;
    let images = usize::from(by_image(&region) && leading.len() > 1);
    let column = leading.len();
    let planes = pairing(&region, column)?;
    let axes = Axes {
        batch: leading[..images].to_vec(),
        planes: Vec::new(),
        rows: leading[images..].to_vec(),
        columns: vec![w.shape[0]],
    };
    let domain = Domain::identity(axes.clone(), Some(column));
    let left = Axes {
        columns: vec![*depth],
        ..axes.clone()
    };
    let outputs = outputs(region, &domain, planes)?;
    let left = View::read(x, &left, left.walk(), Vec::new());
    let right = weight(w, planes);
    Ok(Contraction::new(&axes, planes, left, right, outputs))
}

/// `[planes, columns, depth]` of a weight `[planes · columns, depth]`.
fn weight(w: &Access, planes: usize) -> View {
    let columns = w.shape[0] / planes;
    let axes = Axes {
        batch: Vec::new(),
        planes: vec![planes],
        rows: vec![columns],
        columns: vec![w.shape[1]],
    };
    let row = axes.index(0).times(columns as i64).add(&axes.index(1));
    View::read(w, &axes, vec![row, axes.index(2)], Vec::new())
}

fn matmul(region: RegionRef<'_>) -> Result<Contraction, String> {
    let (a, b) = (&region.operands[0], &region.operands[1]);
    let result = region.result()?;
    let (leading, last) = result.split_at(result.len() - 2);
    let (depth, column) = (a.shape[a.shape.len() - 1], result.len() - 1);
    // Matrices that meet the same right factor are one tall matrix.
    let shared = b.shape[..b.shape.len() - 2]
        .iter()
        .all(|&extent| extent == 1);
    let images = match (shared, by_image(&region)) {
        (true, false) => 0,
        (true, true) => leading.len().min(1),
        (false, _) => leading.len(),
    };
    let rows = [&leading[images..], &last[..1]].concat();
    let axes = Axes {
        batch: leading[..images].to_vec(),
        planes: Vec::new(),
        rows,
        columns: vec![last[1]],
    };
    if pairing(&region, column)? > 1 {
        return Err("its columns are paired".to_owned());
    }
    let domain = Domain::identity(axes.clone(), Some(column));
    let left = Axes {
        columns: vec![depth],
        ..axes.clone()
    };
    let right = Axes {
        rows: vec![last[1]],
        ..left.clone()
    };
    let stretched = |access: &Access, own: &[usize], of: &Axes, leads: usize| {
        let missing = leading.len() + 2 - access.shape.len();
        let walk = |axis: usize| match access.shape[axis] {
            1 => Index::constant(0),
            _ => of.index(axis + missing),
        };
        let mut index: Vec<Index> = (0..access.shape.len() - 2).map(walk).collect();
        index.extend(own.iter().map(|&axis| of.index(leads + axis)));
        View::read(access, of, index, Vec::new())
    };
    let outputs = outputs(region, &domain, 1)?;
    let left = stretched(a, &[0, 1], &left, leading.len());
    let right = match shared {
        true => {
            let mut index = vec![Index::constant(0); b.shape.len() - 2];
            let right = Axes {
                batch: Vec::new(),
                ..right
            };
            index.extend([right.index(1), right.index(0)]);
            View::read(b, &right, index, Vec::new())
        }
        false => stretched(b, &[1, 0], &right, images),
    };
    Ok(Contraction::new(&axes, 1, left, right, outputs))
}

fn convolution(region: RegionRef<'_>, conv: &Conv) -> Result<Contraction, String> {
    let (x, w) = (bordered(&region.operands[0])?, &region.operands[1]);
    let result = region.result()?;
    let (positions, kernel) = (&result[2..], &w.shape[2..]);
    let (spatial, depth) = (positions.len(), w.shape[1]);
    let share = result[1] / conv.groups;
    let images = usize::from(by_image(&region));
    let batch = [&result[..images], &[conv.groups][..]].concat();
    let rows = [&result[images..1], positions].concat();
    let axes = Axes {
        batch,
        planes: Vec::new(),
        rows,
        columns: vec![share],
    };
    // The image is the first of the batch's axes or of the rows'; the group the batch's last.
    let (group, image) = (images, if images == 1 { 0 } else { 1 });
    let index = |axes: &Axes| {
        let column = axes.index(axes.first_column());
        let feature = axes.index(group).times(share as i64).add(&column);
        let mut index = vec![axes.index(image), feature];
        index.extend((2..2 + spatial).map(|axis| axes.index(axis)));
        (index, Vec::new())
    };
    if conv.groups > 1 && (region.outputs.len() > 1 || pairing(&region, 1)? > 1) {
        return Err("groups of channels have several outputs".to_owned());
    }
    let domain = Domain::new(axes.clone(), (conv.groups == 1).then_some(1), &index);
    let left = Axes {
        columns: [kernel, &[depth]].concat(),
        ..axes.clone()
    };
    let tap = left.first_column();
    let channel = left.index(group).times(depth as i64);
    let mut walk = vec![left.index(image), channel.add(&left.index(tap + spatial))];
    let mut bounds = Vec::new();
    for axis in 0..spatial {
        let place = left.index(2 + axis).times(conv.strides[axis] as i64);
        let place = place.add(&left.index(tap + axis).times(conv.dilations[axis] as i64));
        let place = place.plus(-(conv.pads_before[axis] as i64));
        bounds.push(Bound::new(&place, 0, x.shape[2 + axis] as i64));
        walk.push(place);
    }
    let right = Axes {
        batch: vec![conv.groups],
        planes: Vec::new(),
        rows: vec![share],
        columns: left.columns.clone(),
    };
    let feature = right.index(0).times(share as i64).add(&right.index(1));
    let mut taps = vec![feature, right.index(2 + spatial)];
    taps.extend((2..2 + spatial).map(|axis| right.index(axis)));
    // Products of several images share the weights: their batch is that of the groups.
    let mut right = View::read(w, &right, taps, Vec::new());
    if images == 1 {
        right = with_images(&right, result[0]);
    }
    let outputs = outputs(region, &domain, 1)?;
    let left = View::read(&x, &left, walk, bounds);
    Ok(Contraction::new(&axes, 1, left, right, outputs))
}

/// By phases: results at `s = q·stride + r` of one `r` meet every stride-th tap, those with
/// `t = (r + before) mod stride + j·stride`, at the positions
/// `q + floor((r + before) / stride) − j`. Each phase is a product of its own, with its share of
/// the kernel as the right factor.
fn transposed(region: RegionRef<'_>, transpose: &ConvTranspose) -> Result<Contraction, String> {
    let (x, w) = (
        bordered(&region.operands[0])?,
        bordered(&region.operands[1])?,
    );
    let mut steps = transpose.strides.iter().zip(&transpose.dilations);
    if !steps.all(|(&stride, &dilation)| stride == 1 || dilation == 1) {
        return Err("a transposed convolution has strides and dilations".to_owned());
    }
    if by_image(&region) {
        return Err("side reductions of a transposed convolution".to_owned());
    }
    let result = region.result()?;
    let (kernel, strides) = (&w.shape[2..], &transpose.strides);
    let (spatial, columns, groups) = (kernel.len(), w.shape[1], transpose.groups);
    let share = w.shape[0] / groups;
    let parts = |extents: &[usize]| -> Vec<usize> {
        let axes = extents.iter().zip(strides);
        axes.map(|(extent, stride)| extent.div_ceil(*stride))
            .collect()
    };
    let (places, taps) = (parts(&result[2..]), parts(kernel));
    // Of the batch: the group, then a phase for each spatial axis.
    let batch = [&[groups][..], strides].concat();
    let axes = Axes {
        batch: batch.clone(),
        planes: Vec::new(),
        rows: [&result[..1], &places[..]].concat(),
        columns: vec![columns],
    };
    let index = |axes: &Axes| {
        let row = axes.first_row();
        let column = axes.index(axes.first_column());
        let channel = axes.index(0).times(columns as i64).add(&column);
        let mut index = vec![axes.index(row), channel];
        let mut bounds = Vec::new();
        for axis in 0..spatial {
            let place = axes.index(row + 1 + axis).times(strides[axis] as i64);
            let place = place.add(&axes.index(1 + axis));
            bounds.push(Bound::new(&place, 0, result[2 + axis] as i64));
            index.push(place);
        }
        (index, bounds)
    };
    let domain = Domain::new(axes.clone(), (groups == 1).then_some(1), &index);
    // The first tap of a phase, and how far its position lies ahead.
    let phase = |axes: &Axes, axis: usize| {
        let shape = axes.shape();
        let scope = Scope::of(&shape);
        let reach = axes
            .index(1 + axis)
            .plus(transpose.pads_before[axis] as i64);
        let stride = strides[axis] as i64;
        (reach.modulo(stride, scope), reach.div(stride, scope))
    };
    let left = Axes {
        columns: [&taps[..], &[share]].concat(),
        ..axes.clone()
    };
    let (row, tap) = (left.first_row(), left.first_column());
    let feature = left.index(0).times(share as i64);
    let mut walk = vec![left.index(row), feature.add(&left.index(tap + spatial))];
    let mut bounds = Vec::new();
    for axis in 0..spatial {
        let back = left
            .index(tap + axis)
            .times(-(transpose.dilations[axis] as i64));
        let place = left
            .index(row + 1 + axis)
            .add(&phase(&left, axis).1)
            .add(&back);
        bounds.push(Bound::new(&place, 0, x.shape[2 + axis] as i64));
        walk.push(place);
    }
    let right = Axes {
        batch,
        planes: Vec::new(),
        rows: vec![columns],
        columns: left.columns.clone(),
    };
    let (row, first) = (right.first_row(), right.first_column());
    let feature = right.index(0).times(share as i64);
    let mut turned = vec![feature.add(&right.index(first + spatial)), right.index(row)];
    let mut inside = Vec::new();
    for axis in 0..spatial {
        let tap = right.index(first + axis).times(strides[axis] as i64);
        let tap = tap.add(&phase(&right, axis).0);
        inside.push(Bound::new(&tap, 0, kernel[axis] as i64));
        turned.push(tap);
    }
    let outputs = outputs(region, &domain, 1)?;
    let left = View::read(&x, &left, walk, bounds);
    let right = View::read(&w, &right, turned, inside);
    Ok(Contraction::new(&axes, 1, left, right, outputs))
}

/// Rows are features, columns taps with channels innermost, and what is summed are images and
/// positions: where channels lie last, both factors are copied a step of the depth at a time.
fn weight_gradient(
    region: RegionRef<'_>,
    gradient: &ConvWeightGradient,
) -> Result<Contraction, String> {
    let (x, dr) = (bordered(&region.operands[0])?, &region.operands[1]);
    if by_image(&region) {
        return Err("side reductions of a weight".to_owned());
    }
    let (kernel, positions, groups) = (&gradient.kernel[..], &dr.shape[2..], gradient.groups);
    let spatial = kernel.len();
    let (share, depth) = (dr.shape[1] / groups, x.shape[1] / groups);
    let axes = Axes {
        batch: vec![groups],
        planes: Vec::new(),
        rows: vec![share],
        columns: [kernel, &[depth]].concat(),
    };
    let index = |axes: &Axes| {
        let feature = axes.index(0).times(share as i64).add(&axes.index(1));
        let mut index = vec![feature, axes.index(2 + spatial)];
        index.extend((0..spatial).map(|axis| axes.index(2 + axis)));
        (index, Vec::new())
    };
    let domain = Domain::new(axes.clone(), None, &index);
    let summed = [&dr.shape[..1], positions].concat();
    let left = Axes {
        columns: summed.clone(),
        ..axes.clone()
    };
    let feature = left.index(0).times(share as i64).add(&left.index(1));
    let mut walk = vec![left.index(2), feature];
    walk.extend((0..spatial).map(|axis| left.index(3 + axis)));
    let right = Axes {
        batch: vec![groups],
        planes: Vec::new(),
        rows: axes.columns.clone(),
        columns: summed,
    };
    let first = right.first_column();
    let channel = right.index(0).times(depth as i64);
    let mut taps = vec![right.index(first), channel.add(&right.index(1 + spatial))];
    let mut bounds = Vec::new();
    for axis in 0..spatial {
        let place = right
            .index(first + 1 + axis)
            .times(gradient.strides[axis] as i64);
        let place = place.add(&right.index(1 + axis).times(gradient.dilations[axis] as i64));
        let place = place.plus(-(gradient.pads_before[axis] as i64));
        bounds.push(Bound::new(&place, 0, x.shape[2 + axis] as i64));
        taps.push(place);
    }
    let outputs = outputs(region, &domain, 1)?;
    let left = View::read(dr, &left, walk, Vec::new());
    let right = View::read(&x, &right, taps, bounds);
    Ok(Contraction::new(&axes, 1, left, right, outputs))
}

/// The same weights for each image of the batch.
fn with_images(view: &View, images: usize) -> View {
    let shape = [&[images][..], &view.access.shape].concat();
    let step = Step {
        index: Index::identity(&shape).split_off(1),
        shape: shape.clone(),
        bounds: Vec::new(),
    };
    let mut roles = view.roles;
    roles.batch += 1;
    View {
        access: view.access.through(&step),
        roles,
    }
}

/// The operand of a convolution, 0 outside; one that has another border already is refused.
pub(super) fn bordered(x: &Access) -> Result<Access, String> {
    let zero = zero(x.dtype);
    match &x.fill {
        Some(fill) if *fill != zero => Err("the operand has a border that is not 0".to_owned()),
        Some(_) | None => Ok(Access {
            fill: Some(zero),
            ..x.clone()
        }),
    }
}

fn zero(dtype: DType) -> Tensor {
    Tensor::from_values(dtype, &[], &Values::Float(vec![0.0]))
}
