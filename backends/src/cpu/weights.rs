//! Weights packed once: the right factors of products, as the micro-kernels read them.
//!
//! Takes the view of a weight, gives it in panels over its whole depth, transformed where the
//! program says so. It is made for the machine that loads; no artifact holds it.

use compiler::tile::Transform;

use super::arena::{Arena, Cells};
use super::copy::{self, Part};
use super::kernel::machine::Machine;
use super::threads::on_each;
use super::tiles::padded;
use super::walk::Walk;

/// A right factor, `[batch][plane][panel][depth][column]`.
#[derive(Debug)]
pub(crate) struct Packed {
    data: Arena,
    /// Floats from one matrix of the batch to the next; 0 where all are the same.
    pub(crate) batch_stride: usize,
    /// Floats from one plane to the next.
    pub(crate) plane_stride: usize,
    /// Floats from one panel to the next.
    pub(crate) panel_stride: usize,
}

impl Packed {
    /// All floats.
    pub(crate) fn floats(&self) -> &[f32] {
        self.data.as_floats()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Packs what `walk` shows of `cells`.
    pub(crate) fn new(
        walk: &Walk,
        transform: Option<Transform>,
        cells: &[Cells],
        machine: Machine,
    ) -> Packed {
        let extent = |axes: &[usize]| axes.iter().product::<usize>();
        let (rows, depth) = (extent(walk.rows()), extent(walk.columns()));
        let (batch, planes) = (extent(walk.batch()), extent(walk.planes()));
        let width = machine.columns();
        let panel_stride = depth * width;
        let made = match transform {
            Some(Transform::WinogradWeight(results)) => (results + 2) * (results + 2),
            Some(Transform::WinogradInput(_) | Transform::WinogradOutput(_)) | None => planes,
        };
        let plane_stride = padded(rows, machine) * depth;
        let batch_stride = made * plane_stride;
        let mut data = Arena::floats(batch * batch_stride);
        let out = data.as_floats_mut();
        let panels = rows.div_ceil(width);
        // One task per panel of one matrix of the batch: its part in every plane.
        let mut parts: Vec<Vec<&mut [f32]>> = (0..batch * panels).map(|_| Vec::new()).collect();
        for (number, panel) in out.chunks_exact_mut(panel_stride.max(1)).enumerate() {
            let matrix = number / (made * panels).max(1);
            if matrix < batch {
                parts[matrix * panels + number % panels].push(panel);
            }
        }
        let tasks: Vec<_> = parts.into_iter().map(std::sync::Mutex::new).collect();
        on_each(tasks.len(), |task| {
            let mut planes_out = tasks[task].lock().unwrap_or_else(|e| e.into_inner());
            let first = task % panels * width;
            let mut part = Part {
                batch: task / panels,
                plane: 0,
                rows: first..(first + width).min(rows),
                columns: 0..depth,
            };
            match transform {
                Some(Transform::WinogradWeight(results)) => {
                    super::winograd::weights(machine, walk, cells, &part, results, &mut planes_out);
                }
                Some(Transform::WinogradInput(_) | Transform::WinogradOutput(_)) | None => {
                    for (plane, out) in planes_out.iter_mut().enumerate() {
                        part.plane = plane;
                        copy::panels(machine, walk, cells, &part, width, out);
                    }
                }
            }
        });
        Packed {
            data,
            batch_stride,
            plane_stride,
            panel_stride,
        }
    }
}
