//! What can execute programs here.
//!
//! Takes nothing, gives plain data about the devices that the backends find.

pub use backends::cpu::{Description, describe as cpu};
