//! Rules of what a kernel declares: its name, its grid, its memories.
//!
//! Takes a kernel and the limits of a target, gives the first of the rules K3, K6, K8 and K10 that
//! a declaration breaks. It reads no statement.

use crate::kernel::error::{KernelError, error};
use crate::kernel::{Kernel, Scalar, Shared, SharedId, Type, WARP, typing};
use crate::target::Limits;

/// Whether `name` is a letter or `_`, then letters, digits and `_`.
fn is_word(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// K6, K8, and K10 of what is declared.
pub(super) fn check_declared(kernel: &Kernel, limits: &Limits) -> Result<(), KernelError> {
    let k6 = |place: &str, found: u64, max: u64, wanted| match (1..=max).contains(&found) {
        true => Ok(()),
        false => Err(error("K6", kernel, place, found, wanted)),
    };
    let named = |name: &str| match is_word(name) {
        true => Ok(()),
        false => {
            let wanted = "a word of letters, digits and `_`";
            Err(error("K8", kernel, "name", format!("{name:?}"), wanted))
        }
    };
    named(&kernel.name)?;
    if let Some(line) = kernel
        .comment
        .iter()
        .find(|line| line.contains(char::is_control))
    {
        let wanted = "a line without control characters";
        return Err(error("K8", kernel, "about", format!("{line:?}"), wanted));
    }
    k6(
        "invocations",
        kernel.invocations.into(),
        limits.invocations_max.into(),
        "at least one and no more than the target's",
    )?;
    for groups in kernel.grid {
        k6(
            "grid",
            groups.into(),
            limits.groups_max.into(),
            "at least one and no more than the target's",
        )?;
    }
    if kernel.buffers.len() as u64 > u64::from(limits.buffers_max) {
        let found = kernel.buffers.len();
        let wanted = "no more than the target's";
        return Err(error("K6", kernel, "buffers", found, wanted));
    }
    for buffer in &kernel.buffers {
        named(&buffer.name)?;
        check_element(kernel, &buffer.name, buffer.element)?;
        let bytes = u64::from(buffer.element.bytes()) * u64::from(buffer.elements);
        let wanted = "bytes of a buffer: at least one and no more than the target's";
        k6(&buffer.name, bytes, limits.binding_bytes_max, wanted)?;
    }
    let mut bytes = 0;
    for (number, shared) in kernel.shared.iter().enumerate() {
        named(&shared.name)?;
        check_element(kernel, &shared.name, shared.element)?;
        let own = u64::from(shared.element.bytes()) * u64::from(shared.elements);
        match shared.over {
            Some(owner) => check_over(kernel, limits, number, owner)?,
            None => bytes += own,
        }
        let wanted = "elements, and no more bytes of shared memory than the target's";
        let max = u64::from(limits.shared_bytes_max);
        k6(&shared.name, own.min(1) * bytes, max, wanted)?;
    }
    Ok(())
}

/// K10 of a memory over another one.
fn check_over(
    kernel: &Kernel,
    limits: &Limits,
    number: usize,
    owner: SharedId,
) -> Result<(), KernelError> {
    let own = &kernel.shared[number];
    let is_word = |shared: &Shared| shared.element.scalar != Scalar::F16;
    let wrong = |found: String, wanted| Err(error("K10", kernel, &own.name, found, wanted));
    if limits.warp != WARP {
        return wrong(format!("warps of {}", limits.warp), "a target with warps");
    }
    let earlier = kernel.shared[..number].get(owner.0 as usize);
    match earlier.filter(|owner| owner.over.is_none()) {
        None => wrong(
            format!("{owner}"),
            "an earlier memory with bytes of its own",
        ),
        Some(owner) if owner.bytes() < own.bytes() => wrong(
            format!("{} bytes over {}", own.bytes(), owner.bytes()),
            "no more bytes than those of the other memory",
        ),
        Some(owner) if !is_word(owner) || !is_word(own) => wrong(
            format!("{} over {}", own.element, owner.element),
            "lanes of 32 bits",
        ),
        Some(_) => Ok(()),
    }
}

/// K3: truth values lie in no memory.
fn check_element(kernel: &Kernel, name: &str, element: Type) -> Result<(), KernelError> {
    let lies = element.scalar != Scalar::Bool && typing::are_lanes(element.lanes.into());
    match lies {
        true => Ok(()),
        false => {
            let wanted = "one, two or four numbers";
            Err(error("K3", kernel, name, element, wanted))
        }
    }
}
