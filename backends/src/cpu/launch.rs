//! Kernels on all threads, and what they work in.
//!
//! Takes a kernel and the memory of its buffers, runs each thread's share of the blocks.

use std::sync::{Mutex, PoisonError};

use compiler::target::{Compute, Target};
use compiler::value::array::Fault;

use super::arena::{Arena, Cells};
use super::block::Kernel;
use super::epilogue::Partial;
use super::error::ExecuteError;
use super::kernel::machine::Machine;
use super::threads::on_each;

/// Runs a kernel on all threads, each on its share of the blocks.
pub(super) fn launch(
    kernel: &Kernel,
    cells: &[Cells],
    scratch: &[Mutex<Arena>],
    fresh: &mut Arena,
) -> Result<(), Fault> {
    if kernel.pieces() > 1 {
        launch_pieces(kernel, cells, scratch);
        return Ok(());
    }
    kernel.refresh(cells, fresh);
    let fresh = &*fresh;
    let blocks = kernel.blocks();
    let threads = scratch.len().min(blocks).max(1);
    let share = |thread: usize| thread * blocks / threads;
    let partials = on_each(threads, |thread| {
        let mut scratch = scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let blocks = share(thread)..share(thread + 1);
        kernel.run(blocks, cells, &mut scratch, fresh)
    });
    let partials: Result<Vec<Vec<Partial>>, Fault> = partials.into_iter().collect();
    kernel.merge(partials?.concat(), cells);
    Ok(())
}

/// Folds the pieces of long rows on all threads, and stores what they join to.
pub(super) fn launch_pieces(kernel: &Kernel, cells: &[Cells], scratch: &[Mutex<Arena>]) {
    let pieces = kernel.blocks() * kernel.pieces();
    let threads = scratch.len().min(pieces).max(1);
    let share = |thread: usize| thread * pieces / threads;
    let own = |thread: usize| {
        scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let kept = on_each(threads, |thread| {
        kernel.fold(share(thread)..share(thread + 1), cells, &mut own(thread))
    });
    kernel.store_folded(&kept.concat(), cells, &mut own(0));
}

/// So many bytes of zeros.
pub(super) fn reserve(what: &'static str, bytes: u64) -> Result<Arena, ExecuteError> {
    let arena = usize::try_from(bytes).ok().and_then(Arena::new);
    arena.ok_or(ExecuteError::Memory { bytes, what })
}

/// What the compiler may know of this machine.
pub(super) fn target(machine: Machine, threads: usize) -> Target {
    let compute = Compute {
        threads,
        fragment: [machine.rows(), machine.columns()],
        ..Target::CPU.compute
    };
    Target {
        name: machine.name(),
        compute,
        ..Target::CPU
    }
}
