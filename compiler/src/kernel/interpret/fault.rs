//! What the interpreter reports.
//!
//! Takes nothing, gives closed errors with the facts as fields; see [`super::interpret`].

use thiserror::Error;

use crate::kernel::KernelError;

/// Why a kernel was not executed to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The kernel breaks a rule.
    #[error("{0}")]
    Kernel(#[from] KernelError),
    /// It was given something else than its memories and its grid ask for.
    #[error("{kernel}: found {found}, wanted {wanted}")]
    Arguments {
        /// The kernel.
        kernel: String,
        /// What was given.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// An invocation did what no kernel may do.
    #[error("{kernel}, {statement:?}, invocation {invocation} of workgroup {group:?}: {kind}")]
    Invocation {
        /// The kernel.
        kernel: String,
        /// The text of the statement.
        statement: String,
        /// The workgroup.
        group: [u32; 3],
        /// The invocation in it.
        invocation: u32,
        /// What it did.
        kind: FaultKind,
    },
}

/// What an invocation did.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// It and another one access an element, one of them stores, and no barrier lies between them
    /// that orders the two.
    #[error(
        "found {access} element {element} of {memory:?} that {} {other}, wanted other elements, or \
         in shared memory a barrier between the two",
        name(*group, *invocation)
    )]
    Race {
        /// The name of the memory.
        memory: String,
        /// The element.
        element: u32,
        /// What this one does.
        access: &'static str,
        /// The workgroup of the other one.
        group: [u32; 3],
        /// The other one; `None` where there are several.
        invocation: Option<u32>,
        /// What the other one did.
        other: &'static str,
    },
    /// It accesses what is not in a memory.
    #[error("found index {index} of {memory:?}, wanted one of {elements} elements")]
    OutOfBounds {
        /// The name of the memory.
        memory: String,
        /// The index.
        index: i32,
        /// Elements in the memory.
        elements: u32,
    },
    /// It loads what nobody has stored.
    #[error("found element {element} of {memory:?} undefined, wanted one that was stored")]
    Undefined {
        /// The name of the memory.
        memory: String,
        /// The element.
        element: u32,
    },
    /// It accesses what is being copied.
    #[error(
        "found element {element} of {memory:?} still being copied, wanted a wait of the invocation \
         that copies it, then a barrier"
    )]
    Arriving {
        /// The name of the memory.
        memory: String,
        /// The element.
        element: u32,
    },
    /// It copies 16 bytes from where none begin.
    #[error("found a copy from element {index} of {memory:?}, wanted a multiple of {multiple}")]
    Unaligned {
        /// The name of the memory.
        memory: String,
        /// The element.
        index: i32,
        /// Elements of 16 bytes.
        multiple: u32,
    },
    /// It divides an integer by 0.
    #[error("found an integer divided by 0, wanted another divisor")]
    DivisionByZero,
    /// It shifts by too much.
    #[error("found a shift by {by}, wanted less than 32")]
    Shift {
        /// By how much.
        by: u32,
    },
    /// It asks for a lane that a value does not have.
    #[error("found lane {lane}, wanted one of {lanes}")]
    Lane {
        /// The lane.
        lane: i32,
        /// Lanes of the value.
        lanes: u8,
    },
    /// It came to a barrier and others did not.
    #[error("found a barrier that {arrived} reach, wanted all {invocations}")]
    Barrier {
        /// Invocations that are here.
        arrived: u32,
        /// Invocations of the workgroup.
        invocations: u32,
    },
}

/// The words for the other one.
fn name(group: [u32; 3], invocation: Option<u32>) -> String {
    match invocation {
        Some(invocation) => format!("invocation {invocation} of workgroup {group:?}"),
        None => "more than one other invocation".to_owned(),
    }
}
