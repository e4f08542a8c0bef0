//! What every GPU shares: programs as kernels, launches and windows of memory.
//!
//! Takes a program and a dialect, and returns commands; runs commands on a machine, or in the
//! interpreter of kernels. It contains no text of a dialect and no driver.

pub mod belong;
mod buffers;
pub mod commands;
pub mod compile;
pub mod dialect;
pub mod elements;
pub mod emulator;
pub mod error;
pub mod executor;
mod expand;
mod hosted;
mod places;
mod stored;
pub mod validate;
