//! The kernel IR (level 3): what one invocation of a GPU kernel does, as typed SSA.
//!
//! Takes block programs that a backend expanded through [`Builder`], gives [`Kernel`]s: structured
//! control flow, storage buffers, memory shared by a workgroup, barriers, asynchronous copies,
//! products of matrices by whole warps. Printers of WGSL and PTX decide nothing about one, and the
//! interpreter executes it without a GPU. Nothing here knows a tile, an operator or a driver.
//!
//! A kernel is well formed when
//! * K1: a value is defined once, before it is used, in the same block or one around it;
//! * K2: operands and results have the types that each expression asks for;
//! * K3: memories exist; an access has the memory's element type, and only what is written
//!   somewhere is stored to;
//! * K4: barriers, and what decides whether they are reached, are the same for all invocations;
//! * K5: a loop's step is a positive constant, and every branch gives what the statement defines;
//! * K6: sizes are positive, and the workgroup and its memory within
//!   [`Limits`](crate::target::Limits);
//! * K7: a shared memory is stored to before it is loaded from;
//! * K8: names are words of letters, digits and `_`, comments have no control characters;
//! * K9: products of matrices, shuffles and loads of matrices are for targets with warps, reached by
//!   whole ones, under the same conditions as barriers;
//! * K10: asynchronous copies, and shared memories over others, are for targets with warps. What
//!   copies and loads of matrices access in shared memory are elements of 16 bytes. A memory is over
//!   an earlier one that has bytes of its own, at least as many; both have lanes of 32 bits.

mod build;
mod compute;
mod declared;
mod error;
mod interpret;
mod measure;
mod names;
mod optimize;
mod parse;
mod predict;
mod print;
mod types;
mod typing;
mod uniform;
mod verify;
mod walk;

pub use build::Builder;
pub use error::KernelError;
pub use interpret::{BufferContents, Fault, FaultKind, Traffic, interpret, traffic};
pub use measure::{Multiprocessor, Quality, measure};
pub use names::{Binary, Half, Scalar, Unary};
pub use optimize::{PASSES, Pass, optimize};
pub use parse::parse;
pub use predict::{Bound, Processor, predict};
pub use types::{
    Branch, Buffer, BufferId, Builtin, CHUNK_BYTES, Carried, ChunkCopy, Constant, Expression,
    Kernel, Loop, MatrixLoad, Memory, Shared, SharedId, Statement, Type, Value, WARP,
};
pub use uniform::uniform_values;
pub use verify::verify;
