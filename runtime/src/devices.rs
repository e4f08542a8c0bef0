//! What can execute programs here, and how fast it could at most.
//!
//! Takes a clock, gives plain data about the devices that the backends find.

pub use backends::clock::Clock;
pub use backends::cpu::{
    Ceilings, Description, TuneOptions, describe as cpu, measure as measure_ceilings, tune,
};
