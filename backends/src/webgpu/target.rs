//! What the compiler knows of a WebGPU adapter before it meets one.
//!
//! Takes nothing, gives numbers for choosing tiles: those that every adapter grants, and rates of
//! a laptop's graphics processor of today.

use compiler::target::{Blocks, Target};

/// An adapter that grants the default limits.
pub const TARGET: Target = Target {
    name: "wgsl",
    threads: 16,
    fragment: [4, 4],
    shared_bytes: 16 << 10,
    flops_per_second: 120e9,
    bytes_per_second: 100e9,
    blocks: Blocks {
        rows: &[4, 8, 16, 32],
        row_unit: 4,
        columns: &[4, 8, 16, 20, 24, 32],
        depths: &[16],
        queries: &[4, 8, 16],
        keys: &[16, 32, 48],
        elements: 1024,
        registers: Some(16_384),
        copy_flops: 24.0,
        accumulator_flops: 0.0,
    },
};
