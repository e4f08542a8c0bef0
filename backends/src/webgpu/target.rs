//! What the compiler knows of a WebGPU adapter before it meets one.
//!
//! Takes nothing, returns numbers for choosing tiles: those that every adapter grants, and rates of
//! a laptop's graphics processor.

use compiler::target::{Blocking, Blocks, Compute, Limits, Target};

/// An adapter that grants the default limits.
pub const TARGET: Target = Target {
    name: "wgsl",
    compute: Compute {
        threads: 16,
        fragment: [4, 4],
        near_bytes: Limits::WEBGPU.shared_bytes_max as usize,
        flops_per_second: 120e9,
        bytes_per_second: 100e9,
        copy_flops: 24.0,
        matrices: None,
        blocking: Blocking::Staged {
            accumulators_max: 16_384,
        },
        blocks: Blocks {
            rows: &[4, 8, 16, 32],
            row_unit: 4,
            columns: &[4, 8, 16, 20, 24, 32],
            depths: &[16],
            depth_unit: 1,
            few_rows_depth: 1024,
            queries: &[4, 8, 16],
            keys: &[16, 32, 48],
            elements: 1024,
        },
    },
    limits: Limits::WEBGPU,
};
