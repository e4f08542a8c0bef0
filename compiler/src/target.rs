//! What the compiler knows of a machine: numbers, never instructions.
//!
//! Takes nothing; a backend gives a [`Target`] to those who choose tile programs and their
//! parameters. No number here changes a result beyond the order of sums.

/// The numbers of one machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The name, a key of tuning results.
    pub name: &'static str,
    /// Blocks that run at the same time.
    pub threads: usize,
    /// Rows and columns of the result that one matrix instruction, or one register block of
    /// vector instructions, computes: tiles are multiples where they can be.
    pub fragment: [usize; 2],
    /// Bytes close to one thread, for the tiles that a block works on.
    pub shared_bytes: usize,
    /// Floating-point operations in a second of one thread, a multiply-add counted as two.
    pub flops_per_second: f64,
    /// Bytes in a second between all threads and memory.
    pub bytes_per_second: f64,
    /// The blocks to choose from.
    pub blocks: Blocks,
}

/// What blocks a target takes, and what they cost beside their products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blocks {
    /// Rows of a block of a product at most, as multiples of a fragment.
    pub rows: &'static [usize],
    /// Rows of a block are a multiple of this where there are more.
    pub row_unit: usize,
    /// Columns of a block of a product at most, as multiples of a fragment.
    pub columns: &'static [usize],
    /// Depths of a part: long enough to amortise the accumulator's traffic, short enough that a
    /// part of both factors stays near.
    pub depths: &'static [usize],
    /// Queries of a block of attention at most, as multiples of a fragment's columns.
    pub queries: &'static [usize],
    /// Keys of a part of attention at most.
    pub keys: &'static [usize],
    /// Elements of a pointwise block at most: enough to hide its start, few enough to keep threads
    /// busy.
    pub elements: usize,
    /// Elements of the accumulators of one block at most, where they stay in registers while the
    /// depth passes by and both factors are copied for each block. `None` where accumulators leave
    /// the registers after each part, and weights are packed once.
    pub registers: Option<usize>,
    /// What copying one element into a tile costs, in operations of a product.
    pub copy_flops: f64,
    /// What one element of an accumulator costs each time it leaves the registers and comes back.
    pub accumulator_flops: f64,
}

impl Target {
    /// A processor core of today with 16 lanes; what a device measures of itself is better.
    pub const CPU: Target = Target {
        name: "cpu",
        threads: 2,
        fragment: [14, 32],
        shared_bytes: 1 << 20,
        flops_per_second: 100e9,
        bytes_per_second: 20e9,
        blocks: Blocks {
            rows: &[4, 8, 12],
            row_unit: 1,
            columns: &[4, 10, 20, 40],
            depths: &[256, 384, 512],
            queries: &[2, 4, 8, 16],
            keys: &[128, 256],
            elements: 1 << 15,
            registers: None,
            copy_flops: 12.0,
            accumulator_flops: 10.0,
        },
    };
}

/// What a target allows, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Every window and every buffer starts at a multiple of this.
    pub alignment: u64,
    /// The most bytes that a kernel sees through one binding.
    pub binding_bytes_max: u64,
    /// The most bytes of one buffer.
    pub buffer_bytes_max: u64,
}

impl Limits {
    /// A target whose memory is one piece, like a processor's; aligned to its cache lines.
    pub const NONE: Limits = Limits {
        alignment: 64,
        binding_bytes_max: u64::MAX,
        buffer_bytes_max: u64::MAX,
    };

    /// What every WebGPU adapter grants: `minStorageBufferOffsetAlignment`,
    /// `maxStorageBufferBindingSize` and `maxBufferSize` of the table of limits in the
    /// [specification](https://www.w3.org/TR/webgpu/#limits).
    pub const WEBGPU: Limits = Limits {
        alignment: 256,
        binding_bytes_max: 128 << 20,
        buffer_bytes_max: 256 << 20,
    };

    /// The most bytes of a window that starts and ends at multiples of the alignment.
    pub(crate) fn window_bytes_max(&self) -> u64 {
        let bytes = self.binding_bytes_max.min(self.buffer_bytes_max);
        bytes - bytes % self.alignment
    }
}
