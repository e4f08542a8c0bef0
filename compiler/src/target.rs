//! What the compiler knows of a machine: numbers, never instructions.
//!
//! A backend returns a [`Target`] for each word that it serves. Whoever chooses tile programs reads
//! what computing costs and how blocks are formed; the plan of memory and the verifier of kernels
//! read limits. No number here changes a result beyond the order of sums.

/// A machine, or a class of machines that programs are compiled for ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The name, a key of tuning results.
    pub name: &'static str,
    /// What computing costs, and how blocks are formed.
    pub compute: Compute,
    /// What programs may ask of its memory and of one kernel.
    pub limits: Limits,
}

/// What computing costs on a target, and how blocks are formed there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compute {
    /// Blocks that run at the same time.
    pub threads: usize,
    /// Rows and columns of the result that one matrix instruction, or one register block of
    /// vector instructions, computes: tiles are multiples where they can be.
    pub fragment: [usize; 2],
    /// Bytes close to one thread, for the tiles that a block works on.
    pub near_bytes: usize,
    /// Floating-point operations per second of one thread, a multiply-add counted as two.
    pub flops_per_second: f64,
    /// Bytes per second between all threads and memory.
    pub bytes_per_second: f64,
    /// What copying one element into a tile costs, in operations of a product.
    pub copy_flops: f64,
    /// The rates of products of 16-bit matrices, where the target has instructions for them.
    pub matrices: Option<MatrixRates>,
    /// How the blocks of a product share its factors.
    pub blocking: Blocking,
    /// The blocks to choose from.
    pub blocks: Blocks,
}

/// The rates of products of 16-bit matrices, of all threads together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatrixRates {
    /// Multiprocessors: blocks that do not take turns.
    pub multiprocessors: usize,
    /// Floating-point operations per second, a multiply-add counted as two.
    pub flops_per_second: f64,
    /// Bytes per second that are stored to tiles which blocks share, and read of them.
    pub near_bytes_per_second: f64,
    /// Bytes per second that are copied into such tiles.
    pub copied_bytes_per_second: f64,
    /// Warps of a block at most: each reads its rows and columns of both factors.
    pub warps_max: usize,
    /// Seconds that a launch takes at least.
    pub launch_seconds: f64,
}

/// How the blocks of a product share its factors, and where their accumulators are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Blocking {
    /// The right factor is packed once for all blocks; an accumulator returns to the cache after
    /// each part of the depth.
    ///
    /// # Source
    /// Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication", section 4.
    Packed {
        /// What one element of an accumulator costs each time it leaves the registers and comes
        /// back, in operations of a product.
        accumulator_flops: f64,
    },
    /// Each block copies parts of both factors to shared memory; its accumulators stay in
    /// registers for the whole depth.
    Staged {
        /// Elements of the accumulators of one block, at most.
        accumulators_max: usize,
    },
}

/// The blocks that a target offers.
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
    /// Depths of a part are a multiple of this where there are more.
    pub depth_unit: usize,
    /// Depths of a part of a product of few rows at most.
    pub few_rows_depth: usize,
    /// Queries of a block of attention at most, as multiples of a fragment's columns.
    pub queries: &'static [usize],
    /// Keys of a part of attention at most.
    pub keys: &'static [usize],
    /// Elements of a pointwise block at most: enough to hide its start, few enough to keep threads
    /// busy.
    pub elements: usize,
}

/// What programs may ask of a target's memory and of one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Every window and every buffer starts at a multiple of this many bytes.
    pub alignment: u64,
    /// The most bytes that a kernel sees through one binding.
    pub binding_bytes_max: u64,
    /// The most bytes of one buffer.
    pub buffer_bytes_max: u64,
    /// The most storage buffers of one kernel.
    pub buffers_max: u32,
    /// The most bytes of shared memory of a workgroup.
    pub shared_bytes_max: u32,
    /// The most invocations of a workgroup.
    pub invocations_max: u32,
    /// The most workgroups along each axis of a grid.
    pub groups_max: u32,
    /// Invocations that compute products of matrices together; 0 where none do.
    pub warp: u32,
}

impl Target {
    /// A processor core with 16 lanes, for predictions made before a machine is known.
    pub const CPU: Target = Target {
        name: "cpu",
        compute: Compute {
            threads: 2,
            fragment: [14, 32],
            near_bytes: 1 << 20,
            flops_per_second: 100e9,
            bytes_per_second: 20e9,
            copy_flops: 12.0,
            matrices: None,
            blocking: Blocking::Packed {
                accumulator_flops: 10.0,
            },
            blocks: Blocks {
                rows: &[4, 8, 12],
                row_unit: 1,
                columns: &[4, 10, 20, 40],
                depths: &[256, 384, 512],
                depth_unit: 1,
                few_rows_depth: 1024,
                queries: &[2, 4, 8, 16],
                keys: &[128, 256],
                elements: 1 << 15,
            },
        },
        limits: Limits::NONE,
    };

    /// The same target with another number of threads.
    pub fn with_threads(self, threads: usize) -> Target {
        let compute = Compute {
            threads,
            ..self.compute
        };
        Target { compute, ..self }
    }
}

impl Blocking {
    /// What one element of an accumulator costs each time it leaves the registers and comes back,
    /// in operations of a product; 0 where it stays there.
    pub fn accumulator_flops(&self) -> f64 {
        match self {
            Blocking::Packed { accumulator_flops } => *accumulator_flops,
            Blocking::Staged { .. } => 0.0,
        }
    }

    /// Whether accumulators of `elements` stay where this keeps them.
    pub fn holds(&self, elements: usize) -> bool {
        match self {
            Blocking::Packed { .. } => true,
            Blocking::Staged { accumulators_max } => elements <= *accumulators_max,
        }
    }
}

impl Limits {
    /// A target whose memory is one piece, like a processor's; aligned to its cache lines.
    pub const NONE: Limits = Limits {
        alignment: 64,
        binding_bytes_max: u64::MAX,
        buffer_bytes_max: u64::MAX,
        buffers_max: u32::MAX,
        shared_bytes_max: u32::MAX,
        invocations_max: u32::MAX,
        groups_max: u32::MAX,
        warp: 0,
    };

    /// What every WebGPU adapter grants: `minStorageBufferOffsetAlignment`,
    /// `maxStorageBufferBindingSize`, `maxBufferSize`, `maxStorageBuffersPerShaderStage`,
    /// `maxComputeWorkgroupStorageSize`, `maxComputeInvocationsPerWorkgroup` and
    /// `maxComputeWorkgroupsPerDimension` of the table of limits in the
    /// [specification](https://www.w3.org/TR/webgpu/#limits).
    pub const WEBGPU: Limits = Limits {
        alignment: 256,
        binding_bytes_max: 128 << 20,
        buffer_bytes_max: 256 << 20,
        buffers_max: 8,
        shared_bytes_max: 16 << 10,
        invocations_max: 256,
        groups_max: 65_535,
        warp: 0,
    };

    /// The most bytes of a window that starts and ends at multiples of the alignment.
    pub(crate) fn window_bytes_max(&self) -> u64 {
        let bytes = self.binding_bytes_max.min(self.buffer_bytes_max);
        bytes - bytes % self.alignment
    }
}
