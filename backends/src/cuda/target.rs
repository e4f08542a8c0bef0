//! What the compiler knows of an NVIDIA graphics processor of compute capability 8.0.
//!
//! Takes nothing, returns numbers for choosing tiles: the limits of the capability, and the rates
//! of an A100.

use compiler::kernel::{Processor, WARP};
use compiler::target::{Blocking, Blocks, Compute, Limits, MatrixRates, Target};

/// Blocks that an A100 executes at once: two on each of its 108 multiprocessors.
const BLOCKS_AT_ONCE: usize = 216;

/// What every processor from capability 8.0 grants a kernel without asking for more: the table of
/// technical specifications per compute capability of the CUDA programming guide. Kernels count
/// elements, of which the smallest has two bytes, in 31 bits; addresses have 64. Parameters have
/// 4,096 bytes, each buffer takes 8 of them.
const LIMITS: Limits = Limits {
    alignment: 256,
    binding_bytes_max: 2 << 30,
    buffer_bytes_max: 2 << 30,
    buffers_max: 64,
    shared_bytes_max: 48 << 10,
    invocations_max: 1024,
    groups_max: 65_535,
    warp: WARP,
};

/// Compute capability 8.0, with the rates of an A100: 19.5 TFLOP/s of f32 and 1,555 GB/s.
pub const TARGET: Target = Target {
    name: "cuda",
    compute: Compute {
        threads: BLOCKS_AT_ONCE,
        fragment: [16, 8],
        near_bytes: LIMITS.shared_bytes_max as usize,
        flops_per_second: 19.5e12 / BLOCKS_AT_ONCE as f64,
        bytes_per_second: 1555e9,
        copy_flops: 24.0,
        matrices: Some(MatrixRates {
            multiprocessors: Processor::A100.multiprocessors as usize,
            flops_per_second: Processor::A100.matrix_flops,
            near_bytes_per_second: Processor::A100.shared_bytes,
            copied_bytes_per_second: Processor::A100.cache_bytes,
            warps_max: 8,
            launch_seconds: Processor::A100.launch_seconds,
        }),
        blocking: Blocking::Staged {
            accumulators_max: 20_480,
        },
        blocks: Blocks {
            rows: &[1, 2, 4, 8],
            row_unit: 16,
            columns: &[2, 4, 8, 16, 20],
            depths: &[32],
            depth_unit: 8,
            few_rows_depth: 128,
            queries: &[2, 4, 8],
            keys: &[16, 32, 48],
            elements: 1024,
        },
    },
    limits: LIMITS,
};
