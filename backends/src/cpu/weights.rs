//! Weights packed once: the right factors of products, as the micro-kernels read them.
//!
//! Takes the view of a weight, gives it in panels over its whole depth, transformed where the
//! program says so. It is made for the machine that loads; no artifact holds it.

use compiler::DType;
use compiler::tile::Transform;
use half::{bf16, f16};

use super::arena::{Arena, Cells};
use super::copy::{self, Part};
use super::kernel::machine::Machine;
use super::kernel::widen::Narrow;
use super::threads::each;
use super::tiles::padded;
use super::walk::Walk;

/// A right factor, `[batch][plane][panel][depth][column]`, in the type in which it is stored: f32,
/// or bits of 16-bit floats that are widened when they are used.
#[derive(Debug)]
pub(crate) struct Packed {
    data: Arena,
    /// What the elements are, if they have 16 bits.
    narrow: Option<Narrow>,
    /// Elements from one matrix of the batch to the next; 0 where all are the same.
    pub(crate) batch_stride: usize,
    /// Elements from one plane to the next.
    pub(crate) plane_stride: usize,
    /// Elements from one panel to the next.
    pub(crate) panel_stride: usize,
}

/// The elements of a [`Packed`] factor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Elements<'a> {
    Floats(&'a [f32]),
    Bits(&'a [u16], Narrow),
}

impl Packed {
    /// All elements.
    pub(crate) fn elements(&self) -> Elements<'_> {
        match self.narrow {
            None => Elements::Floats(self.data.as_floats()),
            Some(narrow) => Elements::Bits(self.data.as_bits(), narrow),
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Packs what `walk` shows of `cells`; `None` without memory for it.
    pub(crate) fn new(
        walk: &Walk,
        transform: Option<Transform>,
        cells: &[Cells],
        machine: Machine,
    ) -> Option<Packed> {
        let extent = |axes: &[usize]| axes.iter().product::<usize>();
        let (rows, depth) = (extent(walk.rows()), extent(walk.columns()));
        let (batch, planes) = (extent(walk.batch()), extent(walk.planes()));
        let width = machine.columns();
        let made = match transform {
            Some(Transform::WinogradWeight(results)) => (results + 2) * (results + 2),
            Some(Transform::WinogradInput(_) | Transform::WinogradOutput(_)) | None => planes,
        };
        let narrow = match transform {
            Some(_) => None,
            None => narrow(walk, cells),
        };
        let plane_stride = padded(rows, machine) * depth;
        let floats = batch.checked_mul(made)?.checked_mul(plane_stride)?;
        let bytes = floats.checked_mul(if narrow.is_some() { 2 } else { 4 })?;
        let mut packed = Packed {
            data: Arena::new(bytes)?,
            narrow,
            batch_stride: made * plane_stride,
            plane_stride,
            panel_stride: depth * width,
        };
        let panels = [batch, made, rows.div_ceil(width)];
        let pack = |task: usize, out: &mut [&mut [f32]]| {
            let first = task % panels[2] * width;
            let part = Part {
                batch: task / panels[2],
                plane: 0,
                rows: first..(first + width).min(rows),
                columns: 0..depth,
            };
            panel(machine, walk, cells, transform, part, out);
        };
        match narrow {
            None => each_panel(packed.data.as_floats_mut(), panels, depth * width, pack),
            Some(narrow) => {
                let bits = packed.data.as_bits_mut();
                each_panel(
                    bits,
                    panels,
                    depth * width,
                    |task, out: &mut [&mut [u16]]| {
                        let mut wide = vec![0.0; out.len() * depth * width];
                        let mut parts: Vec<&mut [f32]> = wide.chunks_mut(depth * width).collect();
                        pack(task, &mut parts);
                        for (out, wide) in out.iter_mut().zip(parts) {
                            let bits = wide.iter().map(|&x| bits_of(x, narrow));
                            out.iter_mut().zip(bits).for_each(|(out, bits)| *out = bits);
                        }
                    },
                );
            }
        }
        Some(packed)
    }
}

/// What the elements are that a walk shows, if they have 16 bits.
fn narrow(walk: &Walk, cells: &[Cells]) -> Option<Narrow> {
    match cells[walk.buffers().next()?].dtype {
        DType::F16 => Some(Narrow::F16),
        DType::BF16 => Some(Narrow::Bf16),
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F32 | DType::F64 => {
            None
        }
    }
}

/// The bits of a number that was widened from them.
fn bits_of(x: f32, narrow: Narrow) -> u16 {
    match narrow {
        Narrow::F16 => f16::from_f32(x).to_bits(),
        Narrow::Bf16 => bf16::from_f32(x).to_bits(),
    }
}

/// Calls `work` with the number of every panel of every matrix of the batch, and its part in each
/// plane.
fn each_panel<T: Send>(
    out: &mut [T],
    [batch, planes, panels]: [usize; 3],
    size: usize,
    work: impl Fn(usize, &mut [&mut [T]]) + Sync,
) {
    let mut parts: Vec<Vec<&mut [T]>> = (0..batch * panels).map(|_| Vec::new()).collect();
    for (number, panel) in out.chunks_exact_mut(size.max(1)).enumerate() {
        let matrix = number / (planes * panels).max(1);
        if matrix < batch {
            parts[matrix * panels + number % panels].push(panel);
        }
    }
    let tasks: Vec<(usize, Vec<&mut [T]>)> = parts.into_iter().enumerate().collect();
    each(tasks, |(task, mut parts)| work(task, &mut parts));
}

/// One panel in every plane.
fn panel(
    machine: Machine,
    walk: &Walk,
    cells: &[Cells],
    transform: Option<Transform>,
    mut part: Part,
    out: &mut [&mut [f32]],
) {
    match transform {
        Some(Transform::WinogradWeight(results)) => {
            super::winograd::weights(machine, walk, cells, &part, results, out);
        }
        Some(Transform::WinogradInput(_) | Transform::WinogradOutput(_)) | None => {
            for (plane, out) in out.iter_mut().enumerate() {
                part.plane = plane;
                copy::panels(machine, walk, cells, &part, machine.columns(), out);
            }
        }
    }
}
