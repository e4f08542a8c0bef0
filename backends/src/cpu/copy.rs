//! Copies into tiles: elements of a view, through its access map, into panels or rows.
//!
//! Takes a walk, a rectangle of it and a layout, fills memory that the tile has. Runs that lie as
//! f32 next to each other are read in place; others are gathered first.

use std::ops::Range;

use super::arena::Cells;
use super::kernel::machine::Machine;
use super::kernel::pack::{panel, strip};
use super::walk::{Run, TapOrder, Walk};

/// Rows of a panel at most: columns of the widest register tile.
const HEIGHT_MAX: usize = 64;

/// Taps that are transposed at a time: they stay in a first cache.
const TAPS_MOST: usize = 144;

/// A rectangle of a view.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) batch: usize,
    pub(crate) plane: usize,
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
}

/// Rows in panels of `height`, `[panel][column][row]`; a panel that is not full ends in zeros.
pub(crate) fn panels(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    part: &Part,
    height: usize,
    out: &mut [f32],
) {
    if walk.side_by_side() {
        return strips(machine, walk, cells, part, height, out);
    }
    let depth = part.columns.len();
    let stride = height * depth;
    let mut indices: Vec<usize> = Vec::new();
    let mut runs: Vec<Option<Run>> = Vec::with_capacity(height);
    let mut gathered = Vec::new();
    let starts = part.rows.clone().step_by(height.max(1));
    for (number, first) in starts.enumerate() {
        let count = (first + height).min(part.rows.end) - first;
        let axes = walk.rank();
        indices.clear();
        indices.resize(count * axes, 0);
        for row in 0..count {
            let index = &mut indices[row * axes..][..axes];
            walk.set_index(index, part.batch, part.plane, first + row);
        }
        let out = &mut out[number * stride..][..stride];
        let mut done = 0;
        while done < depth {
            let column = part.columns.start + done;
            let length = walk.run_length(column, depth - done);
            runs.clear();
            for row in 0..count {
                let index = &mut indices[row * axes..][..axes];
                walk.set_column(index, column);
                runs.push(walk.find(index));
            }
            let out = &mut out[done * height..];
            match side_by_side(&runs) {
                // The matrix lies transposed: a step of the depth is a run.
                Some(run) => {
                    for (step, out) in out.chunks_mut(height).take(length).enumerate() {
                        let (out, rest) = out[..height].split_at_mut(count);
                        cells[run.buffer].load(run.at + step * run.stride, 1, out);
                        rest.fill(0.0);
                    }
                }
                None => {
                    let (fill, sizes) = (walk.fill(), [height, length]);
                    transpose(machine, &runs, fill, cells, sizes, &mut gathered, out);
                }
            }
            done += length;
        }
    }
}

/// The same where neighbouring rows lie side by side: as many of them as do, over as many steps of
/// the depth as go on in equal steps, are copied at a time.
fn strips(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    part: &Part,
    height: usize,
    out: &mut [f32],
) {
    let depth = part.columns.len();
    let mut index = walk.index(part.batch, part.plane, part.rows.start);
    let starts = part.rows.clone().step_by(height.max(1));
    for (number, first) in starts.enumerate() {
        let count = (first + height).min(part.rows.end) - first;
        let out = &mut out[number * height * depth..][..height * depth];
        if count < height {
            out.chunks_exact_mut(height)
                .for_each(|step| step[count..].fill(0.0));
        }
        let mut row = 0;
        while row < count {
            let wide = walk.row_length(first + row, count - row);
            walk.set_index(&mut index, part.batch, part.plane, first + row);
            let mut done = 0;
            while done < depth {
                walk.set_column(&mut index, part.columns.start + done);
                let (run, length) = walk.stretch(&index, depth - done);
                let out = &mut out[done * height + row..];
                match run {
                    Some(run) => {
                        let reach = (length - 1) * run.stride + wide;
                        match cells[run.buffer].run(run.at, reach) {
                            Some(x) => strip(machine, out, height, x, run.stride, [wide, length]),
                            None => {
                                for (step, out) in out.chunks_mut(height).take(length).enumerate() {
                                    let at = run.at + step * run.stride;
                                    cells[run.buffer].load(at, 1, &mut out[..wide]);
                                }
                            }
                        }
                    }
                    None => {
                        let steps = out.chunks_mut(height).take(length);
                        steps.for_each(|step| step[..wide].fill(walk.fill()));
                    }
                }
                done += length;
            }
            row += wide;
        }
    }
}

/// The first run, if the others lie one element behind each other and none goes along memory.
fn side_by_side(runs: &[Option<Run>]) -> Option<Run> {
    let first = runs.first().copied().flatten()?;
    let follows = |(number, run): (usize, &Option<Run>)| {
        let next = Run {
            at: first.at + number,
            ..first
        };
        *run == Some(next)
    };
    (first.stride > 1 && runs.iter().enumerate().all(follows)).then_some(first)
}

/// Runs of equal length as the columns of a panel.
fn transpose(
    machine: Machine,
    runs: &[Option<Run>],
    fill: f32,
    cells: &[Cells],
    [height, length]: [usize; 2],
    gathered: &mut Vec<f32>,
    out: &mut [f32],
) {
    let in_place = |run: &Run| match run.stride {
        1 => cells[run.buffer].run(run.at, length),
        _ if length == 1 => cells[run.buffer].run(run.at, 1),
        _ => None,
    };
    let mut rows: [Option<&[f32]>; HEIGHT_MAX] = [None; HEIGHT_MAX];
    let all = rows.iter_mut().zip(runs).all(|(row, run)| match run {
        Some(run) => {
            *row = in_place(run);
            row.is_some()
        }
        None => fill == 0.0,
    });
    if !all {
        gathered.resize(height * length, 0.0);
        for (run, row) in runs.iter().zip(gathered.chunks_exact_mut(length)) {
            match run {
                Some(run) => cells[run.buffer].load(run.at, run.stride, row),
                None => row.fill(fill),
            }
        }
        for (row, run) in rows.iter_mut().zip(gathered.chunks_exact(length)) {
            *row = Some(run);
        }
    }
    panel(machine, out, [height, length], height, &rows[..runs.len()]);
}

/// The taps of some channels at a time, `[channel][tap][row]`, of a panel of rows whose taps lie
/// next to each other: they are transposed as they lie, and `order` tells which they are.
pub(crate) fn taps(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    part: &Part,
    order: &TapOrder,
    mut visit: impl FnMut(Range<usize>, &[f32]),
) {
    let (width, count) = (machine.columns(), order.order.len());
    let channels = walk.columns().last().copied().unwrap_or(1);
    let group = (TAPS_MOST / count).clamp(1, channels.max(1));
    let starts = part.rows.clone().map(|row| {
        let run = walk.find(&walk.index(part.batch, 0, row));
        run.map(|run| (run.buffer, run.at - order.back))
    });
    let starts: Vec<Option<(usize, usize)>> = starts.collect();
    let mut values = vec![0.0; group * count * width];
    let mut gathered = Vec::new();
    for first in (0..channels).step_by(group) {
        let own = first..(first + group).min(channels);
        // Channels that follow one another are one run.
        let [runs, length] = match order.channel_step == count {
            true => [1, own.len() * count],
            false => [own.len(), count],
        };
        gathered.resize(width * length, 0.0);
        for run in 0..runs {
            let place = |start: &Option<(usize, usize)>| {
                let (buffer, at) = (*start)?;
                Some((&cells[buffer], at + (first + run) * order.channel_step))
            };
            let mut rows: [Option<&[f32]>; HEIGHT_MAX] = [None; HEIGHT_MAX];
            for ((row, start), near) in rows
                .iter_mut()
                .zip(&starts)
                .zip(gathered.chunks_mut(length))
            {
                *row = place(start).map(|(cells, at)| match cells.run(at, length) {
                    Some(run) => run,
                    None => {
                        cells.load(at, 1, near);
                        &*near
                    }
                });
            }
            let out = &mut values[run * length * width..][..length * width];
            panel(machine, out, [width, length], width, &rows[..starts.len()]);
        }
        visit(own.clone(), &values[..own.len() * count * width]);
    }
}

/// Rows one after the other, `stride` elements apart.
pub(crate) fn rows(walk: &Walk, cells: &[Cells], part: &Part, stride: usize, out: &mut [f32]) {
    let mut index = walk.index(part.batch, part.plane, part.rows.start);
    for (number, row) in part.rows.clone().enumerate() {
        walk.set_index(&mut index, part.batch, part.plane, row);
        let out = &mut out[number * stride..][..part.columns.len()];
        walk.read(cells, &mut index, part.columns.start, out);
    }
}
