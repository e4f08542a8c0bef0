//! NVIDIA's graphics processors as devices of programs.
//!
//! Takes what a user wants, opens a processor through the driver that the machine has, and loads
//! programs on it. Absence, an old driver, a processor of another kind and lack of memory are
//! sentences; no toolkit is needed.

mod driver;
mod found;
mod loaded;
mod opened;
mod processors;

pub(crate) use found::found;
pub(crate) use opened::open;
