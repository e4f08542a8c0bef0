//! Executes kernels on host memory, without a GPU.
//!
//! Takes a kernel and the contents of its buffers, leaves in them what it stores, and reports what
//! no kernel may do: races, accesses out of bounds, loads of what is undefined, integers divided by
//! 0, barriers that some miss. One workgroup after the other, each statement for all invocations
//! that come to it: the result does not depend on it, for what does is a race. Deterministic; it
//! reads no clock.

mod access;
mod copies;
mod fault;
mod memory;
mod run;
mod traffic;

use crate::kernel::{Kernel, Type, WARP, verify};
use crate::target::Limits;

pub use fault::{Fault, FaultKind};
pub use memory::BufferContents;
pub use traffic::Traffic;

use memory::Bank;
use run::Machine;
use traffic::Counter;

/// What the interpreter allows: whatever the host's memory holds.
pub(super) const LIMITS: Limits = Limits {
    invocations_max: 1024,
    warp: WARP,
    shared_bytes_max: 1 << 20,
    buffers_max: 64,
    ..Limits::NONE
};

/// Executes the workgroups in `groups`, or all, on `buffers`, in the order of the kernel's.
///
/// A multiply-add is rounded twice. Stores stay visible when a fault is reported.
///
/// # Errors
/// With the first fault; when the kernel breaks a rule; when the buffers are not as many and as
/// large as the kernel's, or a group lies outside of the grid.
pub fn interpret(
    kernel: &Kernel,
    buffers: &mut [BufferContents],
    groups: Option<&[[u32; 3]]>,
) -> Result<(), Fault> {
    execute(kernel, buffers, groups, None).map(|_| ())
}

/// Executes a kernel as [`interpret`] does, and counts what its accesses to memory need: one entry
/// for each statement that accesses one, in the order in which they were first executed. Only the
/// first bytes of each memory are taken to begin at a multiple of 128 bytes.
///
/// # Errors
/// As [`interpret`].
pub fn traffic(
    kernel: &Kernel,
    buffers: &mut [BufferContents],
    groups: Option<&[[u32; 3]]>,
) -> Result<Vec<Traffic>, Fault> {
    let counted = execute(kernel, buffers, groups, Some(Counter::default()))?;
    Ok(counted.map_or_else(Vec::new, |counter| counter.all))
}

fn execute(
    kernel: &Kernel,
    buffers: &mut [BufferContents],
    groups: Option<&[[u32; 3]]>,
    counter: Option<Counter>,
) -> Result<Option<Counter>, Fault> {
    verify(kernel, &LIMITS)?;
    check_arguments(kernel, buffers, groups)?;
    let taken = buffers
        .iter_mut()
        .zip(&kernel.buffers)
        .map(|(contents, data)| {
            let contents = std::mem::replace(contents, BufferContents::undefined(0));
            Bank::new(data.element.lanes, data.written, contents)
        });
    let mut machine = Machine::new(kernel, taken.collect(), groups, counter);
    let done = machine.run();
    let (banks, counter) = machine.into_parts();
    for (contents, bank) in buffers.iter_mut().zip(banks) {
        *contents = bank.contents();
    }
    done.map(|()| counter)
}

fn check_arguments(
    kernel: &Kernel,
    buffers: &[BufferContents],
    groups: Option<&[[u32; 3]]>,
) -> Result<(), Fault> {
    let arguments = |found: String, wanted: String| {
        let kernel = kernel.name.clone();
        Err(Fault::Arguments {
            kernel,
            found,
            wanted,
        })
    };
    let (found, wanted) = (buffers.len(), kernel.buffers.len());
    if found != wanted {
        return arguments(format!("{found} buffers"), wanted.to_string());
    }
    for (contents, data) in buffers.iter().zip(&kernel.buffers) {
        let (found, wanted) = (contents.words().len(), lanes(data.element, data.elements));
        if found as u64 != wanted {
            let found = format!("{found} lanes for {:?}", data.name);
            return arguments(found, wanted.to_string());
        }
    }
    let inside = |group: &[u32; 3]| group.iter().zip(kernel.grid).all(|(at, count)| *at < count);
    if let Some(group) = groups.into_iter().flatten().find(|group| !inside(group)) {
        let wanted = format!("one of a grid of {:?}", kernel.grid);
        return arguments(format!("workgroup {group:?}"), wanted);
    }
    let all = kernel.grid.iter().map(|&count| u128::from(count)).product();
    let count = groups.map_or(all, |groups| groups.len() as u128);
    let invocations = count * u128::from(kernel.invocations);
    if invocations >= u128::from(u32::MAX) {
        let wanted = "less than 2^32 - 1: some of the workgroups".to_owned();
        return arguments(format!("{invocations} invocations"), wanted);
    }
    Ok(())
}

/// Lanes of so many elements.
fn lanes(element: Type, elements: u32) -> u64 {
    u64::from(element.lanes) * u64::from(elements)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod warp_tests;
