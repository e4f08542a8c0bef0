//! Kernels that move elements: everything that reads one operand with strides, and copies of runs.
//!
//! Takes values and geometry, gives buffers. Nothing here computes on elements, except that a
//! strided read can be combined with what it meets.

use compiler::eval::Fault;
use compiler::ops::{Extents, Pad, Slice};

use super::math::vectorized;
use super::threads::{chunks, each};
use super::value::Value;

/// Elements of a result that one task writes.
pub(crate) const BLOCK: usize = 1 << 15;

/// Elements read as if they had another shape: the one at an index is at
/// `start + Σ index · stride`.
#[derive(Debug)]
pub(crate) struct Strided<'a> {
    data: &'a [f32],
    start: usize,
    strides: Vec<isize>,
}

impl<'a> Strided<'a> {
    /// A tensor of `shape` stretched to `result` by NumPy's rule.
    pub(crate) fn stretched(data: &'a [f32], shape: &[usize], result: &[usize]) -> Strided<'a> {
        let own = strides(shape);
        let missing = result.len() - shape.len();
        let stride = |axis: usize| match axis.checked_sub(missing) {
            Some(axis) if shape[axis] != 1 => own[axis],
            Some(_) | None => 0,
        };
        let strides = (0..result.len()).map(stride).collect();
        let start = 0;
        Strided {
            data,
            start,
            strides,
        }
    }

    /// The axes of `shape` with their strides, neighbours merged where one stride serves both.
    fn merged(&self, shape: &[usize]) -> Vec<(usize, isize)> {
        let mut axes: Vec<(usize, isize)> = Vec::new();
        for (&extent, &stride) in shape.iter().zip(&self.strides) {
            match axes.last_mut() {
                _ if extent == 1 => {}
                Some(outer) if outer.1 == stride * extent as isize => {
                    *outer = (outer.0 * extent, stride);
                }
                Some(_) | None => axes.push((extent, stride)),
            }
        }
        axes
    }
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

/// `out[i] = f(out[i], x[i])` for every index `i` of `shape`.
pub(crate) fn zip_strided(
    out: &mut [f32],
    shape: &[usize],
    x: &Strided<'_>,
    f: impl Fn(f32, f32) -> f32 + Sync,
) {
    let mut axes = x.merged(shape);
    let (length, stride) = axes.pop().unwrap_or((1, 1));
    each(chunks(out, BLOCK), |(index, mut block)| {
        let mut position = index * BLOCK;
        while !block.is_empty() {
            let (row, column) = (position / length, position % length);
            let (run, rest) = block.split_at_mut(block.len().min(length - column));
            let first = x.start as isize + offset(row, &axes) + column as isize * stride;
            combine_run(run, &x.data[first as usize..], stride, first, x.data, &f);
            position += run.len();
            block = rest;
        }
    });
}

/// The offset of the row-major `position` among `axes`.
fn offset(mut position: usize, axes: &[(usize, isize)]) -> isize {
    let mut offset = 0;
    for &(extent, stride) in axes.iter().rev() {
        offset += (position % extent) as isize * stride;
        position /= extent;
    }
    offset
}

/// One run with a constant stride, which begins at `first` of `data`, where `from` begins.
fn combine_run(
    run: &mut [f32],
    from: &[f32],
    stride: isize,
    first: isize,
    data: &[f32],
    f: &impl Fn(f32, f32) -> f32,
) {
    vectorized(|| match stride {
        1 => {
            for (out, x) in run.iter_mut().zip(from) {
                *out = f(*out, *x);
            }
        }
        0 => {
            let x = from[0];
            run.iter_mut().for_each(|out| *out = f(*out, x));
        }
        _ => {
            for (i, out) in run.iter_mut().enumerate() {
                *out = f(*out, data[(first + i as isize * stride) as usize]);
            }
        }
    });
}

fn copied(x: &Strided<'_>, result: &Extents) -> Vec<f32> {
    let mut out = vec![0.0; result.elements()];
    zip_strided(&mut out, &result.shape, x, |_, x| x);
    out
}

/// `x` stretched to the shape of the result.
pub(crate) fn broadcast(x: &Value, result: &Extents) -> Vec<f32> {
    copied(
        &Strided::stretched(x.floats(), &x.shape, &result.shape),
        result,
    )
}

/// `x` with its axes in the order of `permutation`.
pub(crate) fn transpose(x: &Value, permutation: &[usize], result: &Extents) -> Vec<f32> {
    let own = strides(&x.shape);
    let strides = permutation.iter().map(|&axis| own[axis]).collect();
    let (data, start) = (x.floats(), 0);
    copied(
        &Strided {
            data,
            start,
            strides,
        },
        result,
    )
}

/// A slice of one axis; `None` where its start is not bound.
pub(crate) fn slice(op: &Slice, x: &Value, result: &Extents) -> Option<Vec<f32>> {
    if result.elements() == 0 {
        return Some(Vec::new());
    }
    let mut strides = strides(&x.shape);
    let start = op.start.extent()? * strides[op.axis] as usize;
    // A step beyond the axis is never taken.
    match result.shape[op.axis] {
        1 => strides[op.axis] = 0,
        _ => strides[op.axis] *= op.step as isize,
    }
    let data = x.floats();
    Some(copied(
        &Strided {
            data,
            start,
            strides,
        },
        result,
    ))
}

/// The operands one after the other along `axis`.
pub(crate) fn concat(operands: &[Value], axis: usize, result: &Extents) -> Vec<f32> {
    let parts: Vec<(&[f32], usize)> = operands
        .iter()
        .map(|x| (x.floats(), x.shape[axis..].iter().product()))
        .collect();
    let mut out = vec![0.0; result.elements()];
    let total = parts.iter().map(|(_, length)| length).sum();
    each(chunks(&mut out, total), |(block, mut row)| {
        for &(x, length) in &parts {
            let (part, rest) = row.split_at_mut(length);
            part.copy_from_slice(&x[block * length..][..length]);
            row = rest;
        }
    });
    out
}

/// `x` in a border of `value`.
pub(crate) fn pad_constant(op: &Pad, x: &Value, value: f32, result: &Extents) -> Vec<f32> {
    let mut out = vec![value; result.elements()];
    let data = x.floats();
    if data.is_empty() {
        return out;
    }
    let into = strides(&result.shape);
    let start: isize = into
        .iter()
        .zip(&op.before)
        .map(|(stride, &b)| stride * b as isize)
        .sum();
    let mut axes: Vec<(usize, isize)> = x.shape.iter().copied().zip(into).collect();
    let (length, _) = axes.pop().unwrap_or((1, 1));
    for (row, from) in data.chunks_exact(length).enumerate() {
        let first = (start + offset(row, &axes)) as usize;
        out[first..first + length].copy_from_slice(from);
    }
    out
}

/// The slices of `data` along `axis` that `indices` name.
pub(crate) fn gather(
    data: &Value,
    indices: &[i64],
    axis: usize,
    result: &Extents,
) -> Result<Vec<f32>, Fault> {
    let (extent, inner) = (data.shape[axis], data.shape[axis + 1..].iter().product());
    let position = |&index: &i64| {
        let from_end = index.checked_add(extent as i64).unwrap_or(index);
        let position = if index < 0 { from_end } else { index };
        let found = usize::try_from(position)
            .ok()
            .filter(|&position| position < extent);
        found.ok_or(Fault::Index { index, extent })
    };
    let positions: Vec<usize> = indices.iter().map(position).collect::<Result<_, _>>()?;
    let x = data.floats();
    let mut out = vec![0.0; result.elements()];
    let length: usize = inner;
    for (row, out) in chunks(&mut out, length) {
        let (block, index) = (row / positions.len(), row % positions.len());
        let first = (block * extent + positions[index]) * length;
        out.copy_from_slice(&x[first..first + length]);
    }
    Ok(out)
}

/// Every spatial element repeated: that at `i` is the one at `floor(i · in / out)`.
pub(crate) fn upsample_nearest(x: &Value, result: &Extents) -> Vec<f32> {
    let (from, to) = (&x.shape[2..], &result.shape[2..]);
    let own = strides(from);
    let mut sources = vec![0usize];
    for axis in 0..to.len() {
        let scaled = |i: usize| i as u128 * from[axis] as u128 / to[axis] as u128;
        let along: Vec<usize> = (0..to[axis])
            .map(|i| scaled(i) as usize * own[axis] as usize)
            .collect();
        sources = sources
            .iter()
            .flat_map(|first| along.iter().map(move |next| first + next))
            .collect();
    }
    let size: usize = from.iter().product();
    let data = x.floats();
    let mut out = vec![0.0; result.elements()];
    each(chunks(&mut out, sources.len()), |(plane, out)| {
        let x = &data[plane * size..][..size];
        for (out, &source) in out.iter_mut().zip(&sources) {
            *out = x[source];
        }
    });
    out
}
