//! Right factors packed ahead of the blocks that read them, as the micro-kernels do: weights once,
//! when they are loaded; what changes from run to run once for each launch.
//!
//! Takes the view of a factor, gives it in panels over its whole depth, transformed where the
//! program says so. It is made for the machine that runs; no artifact holds it.

use compiler::DType;
use compiler::tile::Transform;
use half::{bf16, f16};

use super::arena::{Arena, Cells};
use super::copy::{self, Part};
use super::kernel::machine::Machine;
use super::kernel::widen::Narrow;
use super::kernel::winograd::weights::{Filters, Precision};
use super::threads::each;
use super::tiles::padded;
use super::walk::{TapOrder, Walk};

/// Floats between the planes of a transformed factor, all of which are written in turn: without
/// them planes of a power of two would fall on the same lines of a cache.
const SKEW: usize = 32;

/// A right factor of weights, in the type in which it is stored: f32, or bits of 16-bit floats that
/// are widened when they are used.
#[derive(Debug)]
pub(crate) struct Packed {
    data: Arena,
    /// What the elements are, if they have 16 bits.
    narrow: Option<Narrow>,
    pub(crate) panels: Panels,
}

/// Where the elements of a packed factor lie: `[batch][plane][panel][depth][column]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels {
    /// Different matrices of the batch, planes of each, and panels of each.
    counts: [usize; 3],
    depth: usize,
    /// Elements from one matrix of the batch to the next; 0 where all are the same.
    pub(crate) batch_stride: usize,
    /// Elements from one plane to the next.
    pub(crate) plane_stride: usize,
    /// Elements from one panel to the next.
    pub(crate) panel_stride: usize,
}

/// How a right factor is packed.
#[derive(Debug, Clone)]
pub(crate) struct Packing {
    pub(crate) panels: Panels,
    transform: Option<Transform>,
    precision: Precision,
    taps: Option<TapOrder>,
}

/// The elements of a [`Packed`] factor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Elements<'a> {
    Floats(&'a [f32]),
    Bits(&'a [u16], Narrow),
}

impl Panels {
    /// Those of what `walk` shows; `None` where they are too many to count.
    fn new(walk: &Walk, transform: Option<Transform>, machine: Machine) -> Option<Panels> {
        let extent = |axes: &[usize]| axes.iter().product::<usize>();
        let (rows, depth) = (extent(walk.rows()), extent(walk.columns()));
        let mut axes = walk.depends_on().into_iter();
        let batched = axes.any(|axis| axis < walk.batch().len());
        let (batch, planes) = (extent(walk.batch()), extent(walk.planes()));
        let made = match transform {
            Some(Transform::WinogradWeight(results)) => (results + 2) * (results + 2),
            Some(
                Transform::WinogradInput(_)
                | Transform::WinogradOutput(_)
                | Transform::WinogradGradient(_)
                | Transform::WinogradWeightGradient(_),
            )
            | None => planes,
        };
        let skew = if transform.is_some() { SKEW } else { 0 };
        let plane_stride = padded(rows, machine)
            .checked_mul(depth)?
            .checked_add(skew)?;
        let stride = made.checked_mul(plane_stride)?;
        let batch = if batched { batch } else { 1 };
        batch.checked_mul(stride)?;
        Some(Panels {
            counts: [batch, made, rows.div_ceil(machine.columns())],
            depth,
            batch_stride: if batched { stride } else { 0 },
            plane_stride,
            panel_stride: depth * machine.columns(),
        })
    }

    /// Elements of all.
    pub(crate) fn elements(&self) -> usize {
        let [batch, planes, _] = self.counts;
        batch * planes * self.plane_stride
    }

    /// The panel of a task, in which all of its planes are made.
    fn part(&self, task: usize, walk: &Walk, machine: Machine) -> Part {
        let (width, panels) = (machine.columns(), self.counts[2]);
        let rows: usize = walk.rows().iter().product();
        let first = task % panels * width;
        Part {
            batch: task / panels,
            plane: 0,
            rows: first..(first + width).min(rows),
            columns: 0..self.depth,
        }
    }
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
        let packing = Packing::new(walk, transform, Precision::Double, machine)?;
        let panels = packing.panels;
        let narrow = match transform {
            Some(_) => None,
            None => narrow(walk, cells),
        };
        let size = if narrow.is_some() { 2 } else { 4 };
        let bytes = panels.elements().checked_mul(size)?;
        let mut packed = Packed {
            data: Arena::new(bytes)?,
            narrow,
            panels,
        };
        match narrow {
            None => packing.pack(walk, cells, machine, packed.data.as_floats_mut()),
            Some(narrow) => {
                let (bits, size) = (packed.data.as_bits_mut(), panels.panel_stride);
                each_panel(bits, &panels, |task, out: &mut [&mut [u16]]| {
                    let mut wide = vec![0.0; out.len() * size];
                    let mut parts: Vec<&mut [f32]> = wide.chunks_mut(size).collect();
                    packing.panel(task, walk, cells, machine, &mut parts);
                    for (out, wide) in out.iter_mut().zip(parts) {
                        let bits = wide.iter().map(|&x| bits_of(x, narrow));
                        out.iter_mut().zip(bits).for_each(|(out, bits)| *out = bits);
                    }
                });
            }
        }
        Some(packed)
    }
}

impl Packing {
    /// How what `walk` shows is packed; `None` where it is too large to count.
    pub(crate) fn new(
        walk: &Walk,
        transform: Option<Transform>,
        precision: Precision,
        machine: Machine,
    ) -> Option<Packing> {
        Some(Packing {
            panels: Panels::new(walk, transform, machine)?,
            transform,
            precision,
            taps: walk.taps().filter(|taps| match transform {
                Some(_) => taps.order.len() == 9,
                None => taps.order.len() > 1 && walk.planes().is_empty(),
            }),
        })
    }

    /// Packs what `walk` shows of `cells` now.
    pub(crate) fn pack(&self, walk: &Walk, cells: &[Cells], machine: Machine, out: &mut [f32]) {
        let out = &mut out[..self.panels.elements()];
        each_panel(out, &self.panels, |task, out: &mut [&mut [f32]]| {
            self.panel(task, walk, cells, machine, out);
        });
    }

    /// Packs the panel of a task in every plane.
    fn panel(
        &self,
        task: usize,
        walk: &Walk,
        cells: &[Cells],
        machine: Machine,
        out: &mut [&mut [f32]],
    ) {
        let mut part = self.panels.part(task, walk, machine);
        match (&self.taps, self.transform) {
            (Some(taps), _) => {
                copy::taps(machine, walk, cells, &part, taps, |channels, values| {
                    self.place(machine, taps, channels, values, out);
                });
            }
            (None, Some(Transform::WinogradWeight(results))) => {
                let scheme = (results, self.precision);
                super::winograd::gathered(machine, walk, cells, part, scheme, out);
            }
            (None, _) => {
                for (plane, out) in out.iter_mut().enumerate() {
                    part.plane = plane;
                    copy::panels(machine, walk, cells, &part, machine.columns(), out);
                }
            }
        }
    }

    /// Puts the taps of some channels, `[channel][tap][column]`, where they belong.
    fn place(
        &self,
        machine: Machine,
        taps: &TapOrder,
        channels: std::ops::Range<usize>,
        values: &[f32],
        out: &mut [&mut [f32]],
    ) {
        let (width, count) = (machine.columns(), taps.order.len());
        match (self.transform, taps.order.as_slice().try_into()) {
            (Some(Transform::WinogradWeight(results)), Ok(order)) => {
                let planes = out
                    .iter_mut()
                    .map(|plane| &mut plane[channels.start * width..]);
                let mut planes: Vec<&mut [f32]> = planes.collect();
                let filters = Filters {
                    taps: values,
                    channels: channels.len(),
                    channel_stride: count * width,
                    tap_stride: width,
                    order,
                };
                let scheme = (results, self.precision);
                super::winograd::kernels(machine, scheme, filters, &mut planes);
            }
            (_, _) => {
                let depth = self.panels.depth / count;
                for (own, channel) in values.chunks_exact(count * width).zip(channels) {
                    for (values, tap) in own.chunks_exact(width).zip(&taps.order) {
                        let place = (tap * depth + channel) * width;
                        out[0][place..place + width].copy_from_slice(values);
                    }
                }
            }
        }
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
    panels: &Panels,
    work: impl Fn(usize, &mut [&mut [T]]) + Sync,
) {
    let ([batch, planes, count], size) = (panels.counts, panels.panel_stride);
    let mut parts: Vec<Vec<&mut [T]>> = (0..batch * count).map(|_| Vec::new()).collect();
    let stacked = out.chunks_mut(panels.plane_stride.max(1)).enumerate();
    for (number, plane) in stacked.take(batch * planes) {
        let own = plane.chunks_exact_mut(size.max(1)).take(count);
        for (panel, out) in own.enumerate() {
            parts[number / planes * count + panel].push(out);
        }
    }
    let tasks: Vec<(usize, Vec<&mut [T]>)> = parts.into_iter().enumerate().collect();
    each(tasks, |(task, mut parts)| work(task, &mut parts));
}
