//! Winograd convolutions: tiles of a view through their transforms.
//!
//! Takes walks whose planes are the pixels of a tile or the taps of a kernel, gives points as the
//! factors of products, and results of products as pixels. The transforms are the kernels'.

use super::arena::Cells;
use super::copy::{Part, panels};
use super::kernel::machine::Machine;
use super::kernel::winograd::lanes::{Side, lanes};
use super::kernel::winograd::weights::{Filters, Precision, transform};
use super::kernel::winograd::{self, Points, Taps};
use super::walk::{Run, Walk};

/// Taps of a kernel.
const TAPS: usize = 9;

/// The transforms that give so many results along an axis.
fn points(results: usize) -> Points {
    match results {
        2 => Points::Two,
        _ => Points::Four,
    }
}

/// A panel of kernels, transformed: `[channel][feature]` for each plane.
pub(crate) fn kernels(
    machine: Machine,
    (results, precision): (usize, Precision),
    filters: Filters<'_>,
    out: &mut [&mut [f32]],
) {
    transform(machine, (points(results), precision), filters, out);
}

/// The same of kernels that lie anywhere: they are gathered tap by tap first.
pub(crate) fn gathered(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    mut part: Part,
    scheme: (usize, Precision),
    out: &mut [&mut [f32]],
) {
    let (channels, width) = (part.columns.len(), machine.columns());
    let mut taps = vec![0.0; TAPS * channels * width];
    for (tap, out) in taps.chunks_exact_mut((channels * width).max(1)).enumerate() {
        part.plane = tap;
        panels(machine, walk, cells, &part, width, out);
    }
    let filters = Filters {
        taps: &taps,
        channels,
        channel_stride: width,
        tap_stride: channels * width,
        order: std::array::from_fn(|tap| tap),
    };
    kernels(machine, scheme, filters, out);
}

/// Input tiles, transformed: left panels of `height` tiles, `[plane][panel][channel][tile]`.
pub(crate) fn input(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    part: &Part,
    results: usize,
    height: usize,
    out: &mut [f32],
) {
    let points = points(results);
    let (depth, planes) = (part.columns.len(), points.planes());
    let panels = part.rows.len().div_ceil(height);
    let (panel_stride, plane_stride) = (height * depth, panels * height * depth);
    let mut gathered = Vec::new();
    let mut runs: Vec<Option<Run>> = Vec::with_capacity(height * planes);
    for (number, first) in part.rows.clone().step_by(height).enumerate() {
        let rows = first..(first + height).min(part.rows.end);
        let mut done = 0;
        while done < depth {
            let column = part.columns.start + done;
            let length = walk.run_length(column, depth - done);
            runs.clear();
            for row in rows.clone() {
                let mut index = walk.index(part.batch, 0, row);
                walk.set_column(&mut index, column);
                runs.extend((0..planes).map(|plane| {
                    walk.set_plane(&mut index, plane);
                    walk.find(&index)
                }));
            }
            let tiles = taps(&runs, planes, cells, length, &mut gathered);
            let out = &mut out[number * panel_stride + done * height..];
            winograd::input::input(machine, points, &tiles, [height, length], out, plane_stride);
            done += length;
        }
    }
}

/// The runs of each tile, gathered first where they do not lie as f32 next to each other.
fn taps<'a>(
    runs: &[Option<Run>],
    planes: usize,
    cells: &'a [Cells],
    length: usize,
    gathered: &'a mut Vec<f32>,
) -> Vec<Taps<'a>> {
    let in_place = |run: &Run| match run.stride {
        1 => cells[run.buffer].run(run.at, length),
        _ => None,
    };
    let near = runs.iter().flatten().all(|run| in_place(run).is_some());
    if !near {
        gathered.resize(runs.len() * length, 0.0);
        for (run, out) in runs.iter().zip(gathered.chunks_exact_mut(length)) {
            if let Some(run) = run {
                cells[run.buffer].load(run.at, run.stride, out);
            }
        }
    }
    let gathered = &gathered[..];
    let tile = |(number, tile): (usize, &[Option<Run>])| {
        std::array::from_fn(|plane| match tile.get(plane).copied().flatten() {
            Some(run) if near => in_place(&run),
            Some(_) => Some(&gathered[(number * planes + plane) * length..][..length]),
            None => None,
        })
    };
    runs.chunks_exact(planes).enumerate().map(tile).collect()
}

/// Tiles along the depth, transformed: panels of `height` rows, `[plane][panel][tile][row]`.
pub(crate) fn along(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    part: &Part,
    (results, side): (usize, Side),
    height: usize,
    out: &mut [f32],
) {
    let (count, depth) = (part.rows.len(), part.columns.len());
    let panel_stride = height * depth;
    let strides = [panel_stride, count.div_ceil(height) * panel_stride];
    let near = walk.side_by_side() && walk.row_length(part.rows.start, count) == count;
    let pixels: usize = walk.planes().iter().product();
    let mut gathered = vec![0.0; pixels * count];
    let mut index = walk.index(part.batch, 0, part.rows.start);
    for (tile, column) in part.columns.clone().enumerate() {
        walk.set_column(&mut index, column);
        let mut taps = [None; 36];
        let own = gathered.chunks_exact_mut(count.max(1)).enumerate();
        for ((plane, own), tap) in own.zip(&mut taps) {
            if near {
                walk.set_plane(&mut index, plane);
                if let Some(run) = walk.find(&index) {
                    *tap = cells[run.buffer].run(run.at, count).or_else(|| {
                        cells[run.buffer].load(run.at, 1, own);
                        Some(&*own)
                    });
                }
            } else {
                for (row, value) in part.rows.clone().zip(&mut *own) {
                    walk.set_index(&mut index, part.batch, plane, row);
                    *value = 0.0;
                    if let Some(run) = walk.find(&index) {
                        cells[run.buffer].load(run.at, 1, std::slice::from_mut(value));
                    }
                }
                *tap = Some(&*own);
            }
        }
        let out = &mut out[tile * height..];
        lanes(
            machine,
            (points(results), side),
            &taps,
            [count, height],
            out,
            strides,
        );
    }
}

/// The results of one tile, `[pixel][column]`, in rows of `wide` floats, of its points, `plane`
/// floats apart; where `taps`, those of the gradient of a kernel.
pub(crate) fn output(
    machine: Machine,
    (values, plane): (&[f32], usize),
    columns: usize,
    results: usize,
    (made, wide): (&mut [f32], usize),
    taps: bool,
) {
    winograd::output::output(
        machine,
        points(results),
        (values, plane),
        columns,
        (made, wide),
        taps,
    );
}
